//! The calls of a session, and what their failures mean for it.
//!
//! Neighbour: `session` decides when to call.

use std::time::Duration;

use grid_proto::reapi::{ExecuteOperationMetadata, ExecutedActionMetadata};
use grid_proto::rwapi::bots_client::BotsClient;
use grid_proto::rwapi::{BotSession, CreateBotSessionRequest, UpdateBotSessionRequest};
use prost::Message;
use tonic::metadata::{BinaryMetadataKey, BinaryMetadataValue, MetadataMap};
use tonic::{Code, Request, Status};

use crate::connect::Remote;

/// Trailing metadata: an ExecuteOperationMetadata for each lease, with the names of its log streams.
const OPERATION_METADATA: &str = "executeoperationmetadata-bin";
/// Leading metadata of an update: how far a lease got, as an ExecutedActionMetadata, with the lease's name within.
const PROGRESS: (&str, &str) = ("partial-execution-metadata-", "-bin");
/// The most bytes of progress in one call: servers and what stands before them take 8 KiB of metadata in all, many of
/// them no more, and refuse the whole call else.
const MOST_PROGRESS: usize = 4 << 10;
/// What HTTP/2 counts for an entry of metadata besides its key and value.
const ENTRY: usize = 32;
/// Leading metadata of an answer while the grid drains this bot: seconds until what still runs is taken back.
const DRAIN: &str = "grid-drain";
/// The largest message that is taken: a session with the actions of all its leases.
const MESSAGE_LIMIT: usize = 64 << 20;

/// A session as the server sees it, and what it says about the leases.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) session: BotSession,
    pub(super) metadata: Vec<ExecuteOperationMetadata>,
    /// How long what runs may still run, where the grid drains this bot.
    pub(super) drain: Option<Duration>,
}

impl Answer {
    fn read(response: tonic::Response<BotSession>) -> Self {
        let (metadata, session, _) = response.into_parts();
        let drain = metadata.get(DRAIN).and_then(|left| left.to_str().ok()?.parse().ok());
        Self { session, metadata: about_leases(&metadata), drain: drain.map(Duration::from_secs) }
    }
}

/// What a failed call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The long poll ended without news: call again.
    Quiet,
    /// The server is away, or doesn't let us in at the moment: call again after a pause.
    Away,
    /// The call lost to something else, and a later one need not; or another bot of this name took the session over,
    /// as BuildGrid says it.
    Aborted,
    /// The server doesn't know the session (any more).
    SessionLost,
}

pub(super) fn meaning(status: &Status) -> Failure {
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => Failure::Quiet,
        Code::Aborted => Failure::Aborted,
        Code::InvalidArgument | Code::NotFound | Code::DataLoss | Code::FailedPrecondition => {
            Failure::SessionLost
        }
        _ => Failure::Away,
    }
}

fn stub(remote: &Remote) -> BotsClient<Remote> {
    BotsClient::new(remote.clone())
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT)
}

/// Opens a session in `parent`, the instance.
pub(super) async fn create(
    remote: &Remote,
    parent: &str,
    session: BotSession,
    patience: Duration,
) -> Result<Answer, Status> {
    let mut request =
        Request::new(CreateBotSessionRequest { parent: parent.to_owned(), bot_session: Some(session) });
    request.set_timeout(patience);
    stub(remote).create_bot_session(request).await.map(Answer::read)
}

/// How far leases got, by the keys that say so.
pub(super) type Progress = Vec<(BinaryMetadataKey, BinaryMetadataValue)>;

/// What of `running` fits into a call, from the `turn`th lease on; `turn` becomes the first that does not, so that all have
/// theirs. A lease of which nothing is told this time goes on as the server last heard.
pub(super) fn portion<'a>(
    running: impl Iterator<Item = (&'a String, ExecutedActionMetadata)>,
    turn: &mut usize,
) -> Progress {
    // An id that can't be part of a key is none of ours, and the report says enough without it.
    let entry = |(id, metadata): (&String, ExecutedActionMetadata)| {
        Some((key(id)?, BinaryMetadataValue::from_bytes(&metadata.encode_to_vec())))
    };
    let mut all: Progress = running.filter_map(entry).collect();
    all.sort_unstable_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
    if !all.is_empty() {
        *turn %= all.len();
        all.rotate_left(*turn);
    }
    let mut bytes = 0;
    let fits = all.iter().take_while(|(key, value)| {
        bytes += key.as_str().len() + value.as_encoded_bytes().len() + ENTRY;
        bytes <= MOST_PROGRESS
    });
    let fitting = fits.count();
    all.truncate(fitting);
    *turn += fitting;
    all
}

/// A lease's id is `INSTANCE/NAME` where the instance has a name, and only what follows it is in the key.
fn key(lease: &str) -> Option<BinaryMetadataKey> {
    let name = lease.rsplit('/').next()?;
    format!("{}{name}{}", PROGRESS.0, PROGRESS.1).parse().ok()
}

/// Reports the session's state; the server may wait up to `patience` for something to answer.
pub(super) async fn update(
    remote: &Remote,
    session: BotSession,
    progress: Progress,
    patience: Duration,
) -> Result<Answer, Status> {
    let name = session.name.clone();
    let mut request =
        Request::new(UpdateBotSessionRequest { name, bot_session: Some(session), update_mask: None });
    for (key, value) in progress {
        request.metadata_mut().insert_bin(key, value);
    }
    request.set_timeout(patience);
    stub(remote).update_bot_session(request).await.map(Answer::read)
}

fn about_leases(metadata: &MetadataMap) -> Vec<ExecuteOperationMetadata> {
    metadata
        .get_all_bin(OPERATION_METADATA)
        .iter()
        .filter_map(|value| value.to_bytes().ok())
        .filter_map(|bytes| ExecuteOperationMetadata::decode(bytes).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_is_no_part_of_the_key() {
        for (lease, expected) in [
            ("job", Some("partial-execution-metadata-job-bin")),
            ("an/instance/job.2", Some("partial-execution-metadata-job.2-bin")),
            ("a job", None),
        ] {
            assert_eq!(key(lease).as_ref().map(BinaryMetadataKey::as_str), expected, "{lease}");
        }
    }

    #[test]
    fn every_lease_has_its_turn() {
        let ids: Vec<String> = (0..100).map(|n| format!("an/instance/{n:036}")).collect();
        let metadata =
            ExecutedActionMetadata { worker: "a-worker".repeat(4), ..ExecutedActionMetadata::default() };
        let running = || ids.iter().map(|id| (id, metadata.clone()));
        let mut told = std::collections::HashSet::new();
        let mut turn = 0;
        for _ in 0..20 {
            let portion = portion(running(), &mut turn);
            assert!(!portion.is_empty());
            let size = |(key, value): &(BinaryMetadataKey, BinaryMetadataValue)| {
                key.as_str().len() + value.as_encoded_bytes().len() + ENTRY
            };
            assert!(portion.iter().map(size).sum::<usize>() <= MOST_PROGRESS);
            told.extend(portion.into_iter().map(|(key, _)| key.as_str().to_owned()));
        }
        assert_eq!(told.len(), ids.len());
        assert!(portion(std::iter::empty(), &mut turn).is_empty(), "nothing runs");
        assert_eq!(portion(running().take(1), &mut turn).len(), 1, "fewer run than before");
    }
}
