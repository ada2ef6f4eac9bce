//! Log streams of leases: made when a lease is first shown to its bot, told to the bot by the names that it writes
//! to, and to clients, in their operations' metadata, by the names that they read.
//!
//! They are a courtesy: where they can't be made, the action runs without. Neighbour: [`RemoteLogs`], those that are made
//! at another server.

use std::collections::HashSet;
use std::sync::Arc;

use grid_cas::StoreError;
use grid_proto::logstream::LogStream;
use grid_proto::reapi::{ExecuteOperationMetadata, execution_stage};
use grid_scheduler::Scheduler;
use grid_scheduler::engine::Synced;
use grid_scheduler::job::{Job, Streams};
use prost::Message;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tonic::Status;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};

use super::RemoteLogs;
use super::session::lease_id;
use crate::digests;
use crate::logstream::LogStreams;

/// The trailing metadata of an answer (see [`crate::trailers`]): an `ExecuteOperationMetadata` for each lease.
pub(crate) const ABOUT_LEASE: &str = "executeoperationmetadata-bin";

/// Where the streams of leases are made.
#[derive(Clone, Debug)]
pub(super) enum LeaseLogs {
    /// At this server.
    Here(LogStreams),
    /// At another one.
    Elsewhere(Arc<RemoteLogs>),
}

/// Why a stream was not made, or not ended.
#[derive(Debug, thiserror::Error)]
enum LogError {
    #[error(transparent)]
    Here(#[from] Status),
    #[error(transparent)]
    Elsewhere(#[from] StoreError),
}

impl LeaseLogs {
    async fn create(&self, parent: &str) -> Result<LogStream, LogError> {
        match self {
            Self::Here(logs) => Ok(logs.create(parent).await?),
            Self::Elsewhere(logs) => Ok(Box::pin(logs.create(parent)).await?),
        }
    }

    async fn end(&self, write_name: &str) -> Result<(), LogError> {
        match self {
            Self::Here(logs) => Ok(logs.end(write_name).await?),
            Self::Elsewhere(logs) => Ok(logs.end(write_name).await?),
        }
    }
}

/// Makes the streams of leases that have none yet.
pub(super) async fn prepare(scheduler: &Scheduler, logs: &LeaseLogs, synced: &mut Synced) {
    let mut made = Vec::new();
    for job in synced.held.iter().filter(|job| job.state.streams == Streams::default()) {
        match create(logs, &job.spec.instance).await {
            Ok(streams) => made.push((job.id, job.state.attempts, streams)),
            Err(error) => tracing::debug!(job = %job.id, %error, "the lease has no log streams"),
        }
    }
    if made.is_empty() {
        return;
    }
    match scheduler.attach_streams(synced.session.id, made).await {
        Ok(jobs) => {
            for job in &mut synced.held {
                if let Some(known) = jobs.iter().find(|known| known.id == job.id) {
                    job.state.streams.clone_from(&known.state.streams);
                }
            }
        }
        Err(error) => tracing::debug!(%error, "leases have no log streams"),
    }
}

async fn create(logs: &LeaseLogs, instance: &str) -> Result<Streams, LogError> {
    let (stdout, stderr) = tokio::try_join!(logs.create(instance), logs.create(instance))?;
    Ok(Streams {
        stdout: stdout.name,
        stderr: stderr.name,
        stdout_write: stdout.write_resource_name,
        stderr_write: stderr.write_resource_name,
    })
}

/// Ends the streams of leases that are over, for as long as the scheduler lives: a bot that is gone, or that knows
/// nothing of log streams, does not, and who follows one waits for its end.
pub(super) fn follow(logs: &LeaseLogs, mut over: broadcast::Receiver<Streams>) {
    let logs = logs.clone();
    tokio::spawn(async move {
        loop {
            match over.recv().await {
                Ok(streams) => end(&logs, streams),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "log streams of ended leases stay open until they expire");
                }
                Err(RecvError::Closed) => return,
            }
        }
    });
}

fn end(logs: &LeaseLogs, streams: Streams) {
    for name in [streams.stdout_write, streams.stderr_write] {
        if name.is_empty() {
            continue;
        }
        let logs = logs.clone();
        tokio::spawn(async move {
            if let Err(error) = logs.end(&name).await {
                tracing::debug!(%error, "a log stream could not be ended");
            }
        });
    }
}

/// How many bytes of an answer's metadata tell of streams: gRPC's C core takes 8 KiB altogether.
pub(super) const ROOM: usize = 6 << 10;
/// The same for bots that say that they are of ours, which take 1 MiB.
pub(super) const AMPLE_ROOM: usize = 512 << 10;
/// What HTTP/2 counts for a header beside its name and value (RFC 9113, section 6.5.2).
const HEADER: usize = 32;

/// Tells the bot of its leases' streams, and of those first that it does not have among `known`, the leases that it named. For
/// whatever is beyond `room` the action runs as if there were no streams.
pub(super) fn tell(held: &[Job], known: &HashSet<String>, room: usize, metadata: &mut MetadataMap) {
    let mut told: Vec<_> = held.iter().filter(|job| job.state.streams != Streams::default()).collect();
    told.sort_by_key(|job| known.contains(&lease_id(job)));
    let mut left = room;
    for job in told {
        let about = ExecuteOperationMetadata {
            stage: execution_stage::Value::Executing.into(),
            action_digest: Some(digests::to_wire(&job.spec.action_digest)),
            stdout_stream_name: job.state.streams.stdout_write.clone(),
            stderr_stream_name: job.state.streams.stderr_write.clone(),
            digest_function: job.spec.action_digest.function().to_wire(),
            partial_execution_metadata: None,
        };
        let value = BinaryMetadataValue::from_bytes(&about.encode_to_vec());
        let size = ABOUT_LEASE.len() + value.as_encoded_bytes().len() + HEADER;
        let Some(rest) = left.checked_sub(size) else { return };
        left = rest;
        metadata.append_bin(ABOUT_LEASE, value);
    }
}
