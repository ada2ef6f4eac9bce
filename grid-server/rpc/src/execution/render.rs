//! A job as clients see it: `google.longrunning.Operation` with REAPI's metadata and response.

use bytes::Bytes;
use grid_core::{DigestFunction, ErrorCode, InstanceName, Timestamp};
use grid_proto::any;
use grid_proto::longrunning::{self, operation};
use grid_proto::reapi::{
    ExecuteOperationMetadata, ExecuteRequest, ExecuteResponse, ExecutedActionMetadata, execution_stage,
};
use grid_scheduler::fleet::Explanation;
use grid_scheduler::job::{Job, Outcome, Stage};
use grid_scheduler::operation::Operation;
use prost::{Message, Name};
use prost_types::Any;

use super::instance::ExecutionInstance;
use crate::digests;
use crate::error::grpc_code;

/// Outputs larger than this are not put into a response, in bytes.
const MAX_INLINE: u64 = 1 << 20;

/// Which outputs a client wants in the response itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Inline {
    stdout: bool,
    stderr: bool,
    files: Vec<String>,
}

impl Inline {
    pub(super) fn of(request: &ExecuteRequest) -> Self {
        Self {
            stdout: request.inline_stdout,
            stderr: request.inline_stderr,
            files: request.inline_output_files.clone(),
        }
    }

    fn is_empty(&self) -> bool {
        !self.stdout && !self.stderr && self.files.is_empty()
    }
}

/// The name of an operation on the wire.
#[must_use]
pub fn name(operation: &Operation) -> String {
    let instance = InstanceName::new(&operation.instance).unwrap_or_default();
    instance.join(&operation.id.to_string())
}

/// The operation as it stands. `cancelled` says that its client gave up, whatever became of the job.
#[must_use]
pub fn operation(
    operation: &Operation,
    job: &Job,
    cancelled: bool,
    browser: Option<&str>,
) -> longrunning::Operation {
    waiting(operation, job, cancelled, browser, None)
}

/// As [`operation`], with the reason why its job waits, where there is one to tell.
pub(super) fn waiting(
    operation: &Operation,
    job: &Job,
    cancelled: bool,
    browser: Option<&str>,
    reason: Option<&Explanation>,
) -> longrunning::Operation {
    let done = cancelled || job.state.stage == Stage::Completed;
    let name = name(operation);
    let mut metadata = metadata(job);
    if let (Some(reason), Some(partial)) = (reason, &mut metadata.partial_execution_metadata) {
        partial.auxiliary_metadata.push(any::pack(&wait(reason)));
    }
    longrunning::Operation {
        name,
        metadata: Some(any::pack(&metadata)),
        done,
        result: done.then(|| result(job, cancelled, browser)),
    }
}

/// The operation as a list shows it: without the response, which lists don't load.
#[must_use]
pub fn listed(listed: &Operation, job: &Job, browser: Option<&str>) -> longrunning::Operation {
    let mut operation = operation(listed, job, listed.cancelled, browser);
    if matches!(job.state.outcome, Some(Outcome::Finished { .. })) && !listed.cancelled {
        operation.result = None;
    }
    operation
}

fn metadata(job: &Job) -> ExecuteOperationMetadata {
    let state = &job.state;
    let stage = match state.stage {
        Stage::Queued => execution_stage::Value::Queued,
        Stage::Executing => execution_stage::Value::Executing,
        Stage::Completed => execution_stage::Value::Completed,
    };
    let mut partial = ExecutedActionMetadata::decode(state.progress.as_slice()).unwrap_or_default();
    partial.queued_timestamp = Some(timestamp(state.queued_at));
    if let Some(lease) = &state.lease {
        lease.bot_id.clone_into(&mut partial.worker);
    }
    if partial.worker_start_timestamp.is_none() {
        partial.worker_start_timestamp = state.started_at.map(timestamp);
    }
    ExecuteOperationMetadata {
        stage: stage.into(),
        action_digest: Some(digests::to_wire(&job.spec.action_digest)),
        stdout_stream_name: state.streams.stdout.clone(),
        stderr_stream_name: state.streams.stderr.clone(),
        partial_execution_metadata: Some(partial),
        digest_function: job.spec.action_digest.function().to_wire(),
    }
}

fn result(job: &Job, cancelled: bool, browser: Option<&str>) -> operation::Result {
    match &job.state.outcome {
        Some(Outcome::Finished { response }) if !cancelled => {
            let type_url = ExecuteResponse::type_url();
            match browser {
                None => operation::Result::Response(Any { type_url, value: response.to_vec() }),
                Some(prefix) => {
                    let mut decoded = ExecuteResponse::decode(response.clone()).unwrap_or_default();
                    decoded.message = format!("{prefix}/action/{}/", job.spec.action_digest);
                    operation::Result::Response(any::pack(&decoded))
                }
            }
        }
        Some(Outcome::Failed { code, message }) if !cancelled && *code != ErrorCode::Cancelled => {
            let status = status(*code, message);
            let response = ExecuteResponse { status: Some(status), ..ExecuteResponse::default() };
            operation::Result::Response(any::pack(&response))
        }
        Some(Outcome::Failed { message, .. }) => {
            operation::Result::Error(status(ErrorCode::Cancelled, message))
        }
        Some(Outcome::Finished { .. }) | None => {
            operation::Result::Error(status(ErrorCode::Cancelled, "cancelled by its client"))
        }
    }
}

/// Why a job waits. Clients that print an operation as JSON fail at a message that they don't know, and
/// whoever knows operations knows their status.
fn wait(reason: &Explanation) -> grid_proto::rpc::Status {
    let stuck = reason.reason.is_stuck();
    let code = if stuck { ErrorCode::FailedPrecondition } else { ErrorCode::Unavailable };
    status(code, &reason.text)
}

fn status(code: ErrorCode, message: &str) -> grid_proto::rpc::Status {
    grid_proto::rpc::Status { code: grpc_code(code) as i32, message: message.into(), details: Vec::new() }
}

/// A moment as messages carry it.
#[must_use]
pub fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = at.to_parts();
    prost_types::Timestamp { seconds, nanos }
}

/// Puts the outputs that a client asked for into its response. An output that can't be had stays a digest: it is
/// only a courtesy (REAPI, `inline_stdout`).
pub(super) async fn inline(
    instance: &ExecutionInstance,
    function: DigestFunction,
    wanted: &Inline,
    operation: &mut longrunning::Operation,
) {
    let Some(operation::Result::Response(response)) = &mut operation.result else { return };
    if wanted.is_empty() {
        return;
    }
    let Ok(mut decoded) = any::unpack::<ExecuteResponse>(response) else { return };
    let Some(result) = &mut decoded.result else { return };
    let mut places: Vec<(&Option<grid_proto::reapi::Digest>, &mut Bytes)> = Vec::new();
    if wanted.stdout {
        places.push((&result.stdout_digest, &mut result.stdout_raw));
    }
    if wanted.stderr {
        places.push((&result.stderr_digest, &mut result.stderr_raw));
    }
    for file in result.output_files.iter_mut().filter(|file| wanted.files.contains(&file.path)) {
        places.push((&file.digest, &mut file.contents));
    }
    let mut room = MAX_INLINE;
    let mut taken = Vec::new();
    for (digest, place) in places {
        let Some(wire) = digest.as_ref().filter(|_| place.is_empty()) else { continue };
        if let Ok(digest) = grid_core::Digest::parse(function, &wire.hash, wire.size_bytes)
            && digest.size() <= room
        {
            room -= digest.size();
            taken.push((digest, place));
        }
    }
    let digests: Vec<_> = taken.iter().map(|(digest, _)| *digest).collect();
    for ((_, place), content) in taken.into_iter().zip(instance.storage.read_batch(&digests).await) {
        *place = content.unwrap_or_default();
    }
    *response = any::pack(&decoded);
}
