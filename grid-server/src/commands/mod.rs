//! The commands: one file each.

pub(crate) mod check;
pub(crate) mod cleanup;
pub(crate) mod migrate;
pub(crate) mod serve;

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Waits until the process is asked to end, by SIGTERM or SIGINT.
pub(crate) async fn asked_to_end() -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
