//! A runner of one's own: commands are programs of another processor, and QEMU's user emulation runs them.
//!
//! It speaks Buildbarn's runner protocol, and nothing more: grid-worker brings the files, cuts commands off whose
//! time is over, and takes what they made. A runner for a virtual machine or a board on a desk looks the same.
//! What it leaves out, and grid-runner does: the death of what a command leaves behind, limits, isolation.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Component, Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::Context;
use clap::Parser;
use grid_proto::runner::runner_server::{Runner, RunnerServer};
use grid_proto::runner::{CheckReadinessRequest, RunRequest, RunResponse};
use tokio::net::UnixListener;
use tokio::process::Command;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// Runs commands of another processor for grid-worker.
#[derive(Clone, Debug, Parser)]
struct Settings {
    /// The UNIX socket to listen on, which grid-worker gets as --runner unix:PATH.
    #[arg(long)]
    socket: PathBuf,
    /// The directory that all paths of requests are relative to: grid-worker's --build-dir.
    #[arg(long)]
    build_dir: PathBuf,
    /// The emulator, such as qemu-aarch64-static.
    #[arg(long)]
    qemu: PathBuf,
}

/// `base`/`path`, where that stays below `base`.
fn below(base: &Path, path: &str) -> Result<PathBuf, Status> {
    let sound = Path::new(path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    sound
        .then(|| base.join(path))
        .ok_or_else(|| Status::invalid_argument(format!("{path:?} is not a path below the build directory")))
}

fn created(path: &Path) -> Result<File, Status> {
    File::create(path).map_err(|error| Status::internal(format!("{}: {error}", path.display())))
}

/// As shells tell it: 128 and the number of the signal that ended a command.
fn exit_code(status: ExitStatus) -> i64 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.unwrap_or(255).into()
}

#[tonic::async_trait]
impl Runner for Settings {
    async fn check_readiness(&self, request: Request<CheckReadinessRequest>) -> Result<Response<()>, Status> {
        let path = below(&self.build_dir, &request.into_inner().path)?;
        tokio::fs::metadata(&path)
            .await
            .map(|_| Response::new(()))
            .map_err(|e| Status::unavailable(e.to_string()))
    }

    async fn run(&self, request: Request<RunRequest>) -> Result<Response<RunResponse>, Status> {
        let request = request.into_inner();
        let root = below(&self.build_dir, &request.input_root_directory)?;
        let status = Command::new(&self.qemu)
            // Where programs that are not static find their interpreter and libraries: among the inputs.
            .arg("-L")
            .arg(&root)
            .args(&request.arguments)
            .env_clear()
            .envs(&request.environment_variables)
            .current_dir(below(&root, &request.working_directory)?)
            .stdin(Stdio::null())
            .stdout(created(&below(&self.build_dir, &request.stdout_path)?)?)
            .stderr(created(&below(&self.build_dir, &request.stderr_path)?)?)
            // A call that is given up ends its command.
            .kill_on_drop(true)
            .status()
            .await
            .map_err(|error| Status::internal(format!("{}: {error}", self.qemu.display())))?;
        Ok(Response::new(RunResponse { exit_code: exit_code(status), resource_usage: Vec::new() }))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    // What commands make is to be readable and removable for grid-worker, which is another user.
    rustix::process::umask(rustix::fs::Mode::empty());
    let listener = UnixListener::bind(&settings.socket)
        .with_context(|| format!("--socket {}", settings.socket.display()))?;
    tonic::transport::Server::builder()
        .add_service(RunnerServer::new(settings))
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await?;
    Ok(())
}
