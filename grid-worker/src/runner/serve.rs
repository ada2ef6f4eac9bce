//! `grid-runner serve`: the socket, and the life of the process.
//!
//! Neighbours: `peer` admits connections, `service` answers them, `orphans` reaps. At its start it settles
//! what a runner that was killed has left behind, so that the worker can remove it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use futures::StreamExt;
use grid_proto::runner::runner_server::RunnerServer;
use rustix::process::{DumpableBehavior, geteuid, getpid, set_child_subreaper, set_dumpable_behavior};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use super::isolation::Isolation;
use super::orphans::Children;
use super::peer::Admission;
use super::service::{Policy, RunnerService};
use super::settle;
use super::supervisors::{self, Supervisors};
use crate::runner_protocol::MESSAGE_LIMIT;

/// What `grid-runner serve` is told.
#[derive(Args, Clone, Debug)]
pub struct ServeOptions {
    /// The UNIX socket to listen on; a stale one in its place is replaced.
    #[arg(long, env = "GRID_RUNNER_SOCKET")]
    pub socket: PathBuf,
    /// The directory that all paths of requests are relative to.
    #[arg(long, env = "GRID_RUNNER_BUILD_DIR")]
    pub build_dir: PathBuf,
    /// The user id of the worker, the only one that may call. Without it: the runner's own.
    #[arg(long, env = "GRID_RUNNER_WORKER_UID")]
    pub worker_uid: Option<u32>,
    /// What keeps commands apart. The runner doesn't start where the system doesn't allow it.
    #[arg(long, env = "GRID_RUNNER_ISOLATION", value_enum, default_value_t = Isolation::Plain)]
    pub isolation: Isolation,
    /// Lets commands that ask for it reach the network where isolation keeps others from it.
    #[arg(long, env = "GRID_RUNNER_ALLOW_NETWORK")]
    pub allow_network: bool,
    /// The user and group id that commands run as in `chroot` isolation.
    #[arg(long, env = "GRID_RUNNER_CHROOT_UID", default_value_t = 65_533, value_parser = clap::value_parser!(u32).range(1..))]
    pub chroot_uid: u32,
}

/// Serves until SIGTERM or SIGINT. Commands that run then are killed.
///
/// # Errors
/// Where the build directory or the socket can't be had.
pub async fn serve(options: ServeOptions) -> anyhow::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("prctl(PR_SET_DUMPABLE)")?;
    set_child_subreaper(Some(getpid())).context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    let build = options
        .build_dir
        .canonicalize()
        .with_context(|| format!("--build-dir {}: it must exist", options.build_dir.display()))?;
    let policy = policy(&options);
    let (leftovers, owner) = (build.clone(), policy.owner);
    tokio::task::spawn_blocking(move || settle::settle(&leftovers, owner, None)).await?.unwrap_or_else(
        |error| {
            tracing::warn!(%error, "what an earlier runner left could not all be made removable");
        },
    );

    let own = geteuid().as_raw();
    let worker = options.worker_uid.unwrap_or(own);
    if worker == own {
        tracing::warn!(
            uid = own,
            "worker and runner are one user: commands can call the runner and change staged inputs"
        );
    }
    try_isolation(&options, policy.owner).await?;
    let listener = listen(&options.socket)?;
    let children = Children::default();
    tokio::spawn(children.clone().reap_leftovers());
    let admission = Admission::of(worker);
    let incoming = UnixListenerStream::new(listener).filter(move |stream| {
        let admitted = stream.as_ref().map_or(true, |stream: &UnixStream| admission.admits(stream));
        std::future::ready(admitted)
    });
    tracing::info!(socket = %options.socket.display(), build = %build.display(), worker, isolation = ?options.isolation, "serving");
    let stop = stop()?;
    let service = RunnerServer::new(RunnerService::new(&build, Supervisors::new(children), policy))
        .max_decoding_message_size(MESSAGE_LIMIT);
    tokio::select! {
        served = Server::builder().add_service(service).serve_with_incoming(incoming) => served?,
        () = stop => {}
    }
    // The supervisors see their lifelines end with this process, and kill what they watch over.
    Ok(())
}

fn policy(options: &ServeOptions) -> Policy {
    let owner = match options.isolation {
        Isolation::Chroot => options.chroot_uid,
        Isolation::Plain | Isolation::Bubblewrap => geteuid().as_raw(),
    };
    Policy { isolation: options.isolation, allow_network: options.allow_network, owner }
}

/// Finds out before any command whether the system allows the isolation. In a process of its own, for what is
/// entered can't be left.
async fn try_isolation(options: &ServeOptions, owner: u32) -> anyhow::Result<()> {
    let mode = match options.isolation.to_possible_value() {
        Some(mode) if options.isolation != Isolation::Plain => mode.get_name().to_owned(),
        _ => return Ok(()),
    };
    let directory = options.socket.with_extension("attempt");
    let clear = || match std::fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let attempt = async {
        clear()?;
        std::fs::create_dir(&directory)?;
        let mut command = tokio::process::Command::new(supervisors::SELF);
        command.arg0("grid-runner").args(["attempt", "--isolation", &mode, "--uid", &owner.to_string()]);
        let ended = command.arg(&directory).output().await?;
        clear()?;
        std::io::Result::Ok(ended)
    };
    let ended = attempt.await.with_context(|| format!("trying isolation in {}", directory.display()))?;
    let said = String::from_utf8_lossy(&ended.stderr);
    anyhow::ensure!(
        ended.status.success(),
        "--isolation {mode} is not possible here: {}; let the pod's security context allow it, or take another",
        said.trim()
    );
    Ok(())
}

fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    let display = socket.display();
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("--socket {display}: can't replace what is there"));
        }
        _ => {}
    }
    let listener = UnixListener::bind(socket).with_context(|| format!("--socket {display}"))?;
    // The worker is another user; who may call is decided by `peer`.
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o666))
        .with_context(|| format!("--socket {display}"))?;
    Ok(listener)
}

fn stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
