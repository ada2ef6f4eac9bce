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
/// Leading metadata of an update: how far a lease got, as an ExecutedActionMetadata, with the lease's id within.
const PROGRESS: (&str, &str) = ("partial-execution-metadata-", "-bin");
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
    /// The server doesn't know the session (any more).
    SessionLost,
}

pub(super) fn meaning(status: &Status) -> Failure {
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => Failure::Quiet,
        Code::InvalidArgument
        | Code::NotFound
        | Code::DataLoss
        | Code::Aborted
        | Code::FailedPrecondition => Failure::SessionLost,
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

/// How far leases got, by their ids.
pub(super) type Progress = Vec<(String, ExecutedActionMetadata)>;

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
    for (lease, metadata) in progress {
        // An id that can't be part of a key is none of ours, and the report says enough without it.
        if let Ok(key) = format!("{}{lease}{}", PROGRESS.0, PROGRESS.1).parse::<BinaryMetadataKey>() {
            let value = BinaryMetadataValue::from_bytes(&metadata.encode_to_vec());
            request.metadata_mut().insert_bin(key, value);
        }
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
