//! The commands: one file each.

pub(crate) mod check;
pub(crate) mod cleanup;
pub(crate) mod fsck;
pub(crate) mod import;
pub(crate) mod janitor;
pub(crate) mod migrate;
pub(crate) mod pins;
pub(crate) mod purge;
pub(crate) mod serve;

use std::io;

use grid_config::ServerConfig;
use tokio::signal::unix::{SignalKind, signal};

use crate::compose;
use crate::compose::Found;

/// Waits until the process is asked to end, by SIGTERM or SIGINT.
pub(crate) async fn asked_to_end() -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// The indexes of a configuration, of which there must be some.
async fn indexes(config: &ServerConfig) -> anyhow::Result<Vec<Found>> {
    let indexes = compose::indexes(config).await?;
    anyhow::ensure!(
        !indexes.is_empty(),
        "the configuration has no index (!sql-index or !redis-index) that a storage could be compared with"
    );
    Ok(indexes)
}
