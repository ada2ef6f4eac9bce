//! `grid-runner serve`: the socket, and the life of the process.
//!
//! Neighbours: `peer` admits connections, `service` answers them, `orphans` reaps. At its start it settles
//! what a runner that was killed has left behind, so that the worker can remove it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use futures::StreamExt;
use grid_proto::runner::runner_server::RunnerServer;
use rustix::process::{DumpableBehavior, geteuid, getpid, set_child_subreaper, set_dumpable_behavior};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use super::orphans::Children;
use super::peer::Admission;
use super::service::RunnerService;
use super::settle;

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
    let leftovers = build.clone();
    tokio::task::spawn_blocking(move || settle::settle(&leftovers, None)).await?.unwrap_or_else(|error| {
        tracing::warn!(%error, "what an earlier runner left could not all be made removable");
    });

    let own = geteuid().as_raw();
    let worker = options.worker_uid.unwrap_or(own);
    if worker == own {
        tracing::warn!(
            uid = own,
            "worker and runner are one user: commands can call the runner and change staged inputs"
        );
    }
    let listener = listen(&options.socket)?;
    let children = Children::default();
    tokio::spawn(children.clone().reap_leftovers());
    let admission = Admission::of(worker);
    let incoming = UnixListenerStream::new(listener).filter(move |stream| {
        let admitted = stream.as_ref().map_or(true, |stream: &UnixStream| admission.admits(stream));
        std::future::ready(admitted)
    });
    tracing::info!(socket = %options.socket.display(), build = %build.display(), worker, "serving");
    let stop = stop()?;
    let service = RunnerServer::new(RunnerService::new(&build, children));
    tokio::select! {
        served = Server::builder().add_service(service).serve_with_incoming(incoming) => served?,
        () = stop => {}
    }
    // The supervisors see their lifelines end with this process, and kill what they watch over.
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
