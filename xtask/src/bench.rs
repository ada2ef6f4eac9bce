//! `bench`: measures, and prints tables as `docs/performance.md` has them.

use clap::{Args, ValueEnum};

use crate::shell;

/// What is measured, and on what.
#[derive(Args)]
pub(crate) struct Options {
    /// What is measured.
    what: What,
    /// The databases, `postgres` or `sqlite`; both where none is named.
    databases: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// The scheduler over a database: actions a second, their cost, pick-up, idle bots, a long queue.
    Scheduler,
}

/// Builds the measuring program, optimised, and runs it.
///
/// # Errors
/// Where it can't be built or fails.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (package, bench) = match options.what {
        What::Scheduler => ("grid-scheduler-sql", "scheduler"),
    };
    let build = ["bench", "--profile", "e2e", "--locked", "-p", package, "--bench", bench, "--"];
    let arguments: Vec<&str> =
        build.into_iter().chain(options.databases.iter().map(String::as_str)).collect();
    shell::run(&mut shell::command("cargo", &arguments)?)
}
