//! `bench`: measures, and prints tables as `docs/performance.md` has them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::{buildgrid, shell, workspace};

const BAZEL_REMOTE: &str = "github.com/buchgr/bazel-remote/v2";
const VERSION: &str = "v2.6.2";

/// What is measured, and on what.
#[derive(Args)]
pub(crate) struct Options {
    /// What is measured.
    what: What,
    /// Which part: of the scheduler `postgres` or `sqlite`, of storage a column's name or `cleanup`; all where none is named.
    parts: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// The scheduler over a database: actions a second, their cost, pick-up, idle bots, a long queue.
    Scheduler,
    /// Storage: what requests cost in memory, on a disk, with an index, beside bazel-remote and BuildGrid; cleanup.
    Storage,
}

/// Builds the measuring program, optimised, and runs it.
///
/// # Errors
/// Where it can't be built or fails.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (package, bench) = match options.what {
        What::Scheduler => ("grid-scheduler-sql", "scheduler"),
        What::Storage => ("grid-server", "storage"),
    };
    let build = ["bench", "--profile", "e2e", "--locked", "-p", package, "--bench", bench, "--"];
    let arguments: Vec<&str> = build.into_iter().chain(options.parts.iter().map(String::as_str)).collect();
    let mut command = shell::command("cargo", &arguments)?;
    if matches!(options.what, What::Storage) {
        command.env("GRID_BAZEL_REMOTE", bazel_remote()?).env("GRID_BUILDGRID", buildgrid::installed()?);
    }
    shell::run(&mut command)
}

/// The program of bazel-remote, built once by Go in the cache, as the one dependency of a module of its own.
fn bazel_remote() -> anyhow::Result<PathBuf> {
    let folder = workspace::cache()?.join("bazel-remote");
    let program = folder.join("bazel-remote");
    if !program.is_file() {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("go.mod"), format!("module bench\n\nrequire {BAZEL_REMOTE} {VERSION}\n"))?;
        let build = ["build", "-mod=mod", "-o", "bazel-remote", BAZEL_REMOTE];
        shell::step("build bazel-remote", || shell::run(shell::command("go", build)?.current_dir(&folder)))?;
    }
    Ok(program)
}
