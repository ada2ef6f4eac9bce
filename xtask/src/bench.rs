//! `bench`: measures, and prints tables as `docs/performance.md` has them.

use std::path::PathBuf;
use std::process::Command;

use clap::{Args, ValueEnum};

use crate::{buildgrid, images, shell, workspace};

const BAZEL_REMOTE: &str = "github.com/buchgr/bazel-remote/v2";
const VERSION: &str = "v2.6.2";

/// What is measured, and on what.
#[derive(Args)]
pub(crate) struct Options {
    /// What is measured.
    what: What,
    /// Which part: of the scheduler `postgres`, `sqlite`, `beside` or `waiters`, of storage a column's name or `cleanup`,
    /// of services a column's name or `layers`; all where none is named.
    parts: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// The scheduler over a database: actions a second, their cost, pick-up, idle bots, a long queue; servers beside
    /// BuildGrid, by gRPC; the memory of clients that wait.
    Scheduler,
    /// The worker: what it adds to an action, large inputs and outputs; and beside buildbox-worker on the same actions. With
    /// `overhead` only the first.
    Worker,
    /// Storage: what requests cost in memory, on a disk, with an index, beside bazel-remote and BuildGrid; cleanup.
    Storage,
    /// Trees, results and a build's mix, beside bazel-remote and BuildGrid; what tokens, metrics and spans add.
    Services,
}

/// Builds the measuring programs, optimised, and runs them one after the other.
///
/// # Errors
/// Where one can't be built or fails.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    match options.what {
        What::Storage | What::Services => {
            let bench = if matches!(options.what, What::Storage) { "storage" } else { "services" };
            let mut command = program("grid-server", bench, &options.parts)?;
            command.env("GRID_BAZEL_REMOTE", bazel_remote()?).env("GRID_BUILDGRID", buildgrid::installed()?);
            shell::run(&mut command)
        }
        What::Scheduler => scheduler(&options.parts),
        What::Worker => worker(&options.parts),
    }
}

/// The worker alone, as it is in its image, over servers in the program's own memory; then beside buildbox-worker, on a
/// server.
fn worker(parts: &[String]) -> anyhow::Result<()> {
    let binaries = images::binaries("e2e")?;
    shell::run(program("grid-worker", "actions", parts)?.env("GRID_BINARIES", binaries))?;
    if parts.is_empty() {
        let scenario = ["run", "--quiet", "--locked", "-p", "grid-e2e", "--", "run", "side-by-side"];
        shell::run(&mut shell::command("cargo", scenario)?)?;
    }
    Ok(())
}

/// Databases under the scheduler itself; then servers, by gRPC. Each program takes the parts that it knows.
fn scheduler(parts: &[String]) -> anyhow::Result<()> {
    let wanted = |known: [&str; 2]| -> Option<Vec<String>> {
        let named: Vec<String> =
            parts.iter().filter(|part| known.contains(&part.as_str())).cloned().collect();
        (parts.is_empty() || !named.is_empty()).then_some(named)
    };
    let (databases, servers) = (wanted(["postgres", "sqlite"]), wanted(["beside", "waiters"]));
    anyhow::ensure!(
        databases.is_some() || servers.is_some(),
        "parts of the scheduler: postgres, sqlite, beside, waiters"
    );
    if let Some(parts) = databases {
        shell::run(&mut program("grid-scheduler-sql", "scheduler", &parts)?)?;
    }
    if let Some(parts) = servers {
        let mut command = program("grid-server", "execution", &parts)?;
        shell::run(command.env("GRID_BUILDGRID", buildgrid::installed()?))?;
    }
    Ok(())
}

fn program(package: &str, bench: &str, parts: &[String]) -> anyhow::Result<Command> {
    let build = ["bench", "--profile", "e2e", "--locked", "-p", package, "--bench", bench, "--"];
    shell::command("cargo", build.into_iter().chain(parts.iter().map(String::as_str)))
}

/// The program of bazel-remote, built once by Go in the cache, as the one dependency of a module of its own.
pub(crate) fn bazel_remote() -> anyhow::Result<PathBuf> {
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
