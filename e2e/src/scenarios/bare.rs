//! Without a cluster: the all-in-one server, a worker and a runner as processes of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::builds::{self, DOWNLOAD_ALL};
use crate::bazel::Workspace;
use crate::gridcluster::Cluster;
use crate::process::{self, Background};
use crate::{environment, toolchain};

/// The address in the server's configuration.
const ADDRESS: &str = "grpc://127.0.0.1:50051";
const START: Duration = Duration::from_secs(60);

/// Every action of a clean build runs on the worker, a second clean build runs none, and the outputs are those of a
/// local build.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn remote() -> Result<()> {
    let cluster = Cluster::command_only();
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let server = start_server(dir.path())?;
    let parts = start_worker(dir.path())?;
    let mut workspace = Workspace::new(dir.path())?;
    let clients = workspace.clients(&cluster)?;
    let flags = [format!("--remote_executor={ADDRESS}"), DOWNLOAD_ALL.to_owned()];
    builds::clean_then_cached(&cluster, &mut workspace, &clients, &[], &flags)?;
    let [worker, runner] = parts;
    anyhow::ensure!(worker.terminate()? == Some(0), "grid-worker did not end with 0 on SIGTERM");
    drop(runner);
    anyhow::ensure!(server.terminate()? == Some(0), "grid-server did not end with 0 on SIGTERM");
    Ok(())
}

fn start_server(dir: &Path) -> Result<Background> {
    let mut command = Command::new(environment::binaries()?.join("grid-server"));
    command
        .arg("serve")
        .arg(environment::root().join("e2e/projects/bare.yml"))
        .env("XDG_STATE_HOME", dir.join("state-home"))
        .env("XDG_CONFIG_HOME", dir.join("config-home"));
    let mut server = Background::start("grid-server", &mut command, &dir.join("server.log"))?;
    server.wait_for("readiness: ready", START)?;
    Ok(server)
}

/// A worker, and a runner whose root is the toolchain's: it is what a pod makes of two containers.
fn start_worker(dir: &Path) -> Result<[Background; 2]> {
    let work = dir.join("worker");
    for folder in ["build", "cache", "run"] {
        std::fs::create_dir_all(work.join(folder))?;
    }
    let runner = start_runner(&work, &toolchain::root("toolchain-gcc12")?, dir)?;
    let mut command = Command::new(environment::binaries()?.join("grid-worker"));
    command.args([
        "--bots",
        "http://127.0.0.1:50051",
        "--cas",
        "http://127.0.0.1:50051",
        "--concurrency",
        "2",
    ]);
    for property in ["OSFamily=linux", "ISA=x86-64", "toolchain=gcc12"] {
        command.args(["--property", property]);
    }
    command.arg("--runner").arg(format!("unix:{}", work.join("run/runner.sock").display()));
    command.arg("--build-dir").arg(work.join("build")).arg("--cache-dir").arg(work.join("cache"));
    command.args(["--cache-size", "4294967296", "--admin", "127.0.0.1:0"]);
    let mut worker = Background::start("grid-worker", &mut command, &dir.join("worker.log"))?;
    worker.wait_for("the worker is proved", START)?;
    Ok([worker, runner])
}

fn start_runner(work: &Path, root: &Path, dir: &Path) -> Result<Background> {
    let bin = environment::binaries()?;
    let inside = |path: &Path| -> PathBuf { root.join(path.strip_prefix("/").unwrap_or(path)) };
    let script = "set -e
        mkdir -p \"$1$2\" \"$1/grid-bin\"
        mount --bind \"$2\" \"$1$2\"
        mount --bind \"$3\" \"$1/grid-bin\"
        mount -t proc proc \"$1/proc\"
        mount --rbind /dev \"$1/dev\"
        exec chroot \"$1\" /grid-bin/grid-runner serve --socket \"$2/run/runner.sock\" --build-dir \"$2/build\"";
    std::fs::create_dir_all(inside(work))?;
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "sh",
        "-c",
        script,
        "runner",
    ]);
    command.arg(root).arg(work).arg(&bin);
    let mut runner = Background::start("grid-runner", &mut command, &dir.join("runner.log"))?;
    runner.wait_for("serving", START)?;
    process::run(Command::new("test").arg("-S").arg(work.join("run/runner.sock")))?;
    Ok(runner)
}
