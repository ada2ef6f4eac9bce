//! The stages of an executed action for the trace of the call that waited for it: the queue, and what its worker did.

use std::time::SystemTime;

use grid_core::{CallTrace, TracedStage};
use grid_proto::any::unpack;
use grid_proto::longrunning::Operation;
use grid_proto::longrunning::operation::Result as Outcome;
use grid_proto::reapi::ExecuteResponse;
use prost_types::Timestamp;

/// Tells `trace` of the stages of an operation that has ended. What came from the cache had none.
pub(super) fn note(trace: &CallTrace, operation: &Operation) {
    let Some(Outcome::Response(response)) = &operation.result else { return };
    let Ok(response) = unpack::<ExecuteResponse>(response) else { return };
    let metadata = response.result.and_then(|result| result.execution_metadata);
    let Some(metadata) = metadata.filter(|_| !response.cached_result) else { return };
    let stages = [
        ("queue", metadata.queued_timestamp, metadata.worker_start_timestamp),
        ("fetch inputs", metadata.input_fetch_start_timestamp, metadata.input_fetch_completed_timestamp),
        ("execute", metadata.execution_start_timestamp, metadata.execution_completed_timestamp),
        (
            "upload outputs",
            metadata.output_upload_start_timestamp,
            metadata.output_upload_completed_timestamp,
        ),
    ];
    for (name, start, end) in stages {
        let (Some(start), Some(end)) = (start.and_then(time), end.and_then(time)) else { continue };
        // Nobody works on what is queued.
        let worker = if name == "queue" { String::new() } else { metadata.worker.clone() };
        trace.note(TracedStage { name, worker, start, end });
    }
}

/// The times are a worker's: those that no clock shows are left out.
fn time(timestamp: Timestamp) -> Option<SystemTime> {
    /// The last second of the year 9999, where the protocol's timestamps end.
    const LAST: i64 = 253_402_300_799;
    let is_sound = (0..=LAST).contains(&timestamp.seconds);
    is_sound.then(|| SystemTime::try_from(timestamp).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use grid_proto::any::pack;
    use grid_proto::reapi::{ActionResult, ExecutedActionMetadata};

    use super::*;

    fn ended(cached_result: bool) -> Operation {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let metadata = ExecutedActionMetadata {
            worker: "w".to_owned(),
            queued_timestamp: at(1),
            worker_start_timestamp: at(2),
            execution_start_timestamp: at(3),
            execution_completed_timestamp: at(5),
            output_upload_start_timestamp: at(i64::MAX),
            output_upload_completed_timestamp: at(i64::MAX),
            ..ExecutedActionMetadata::default()
        };
        let result = ActionResult { execution_metadata: Some(metadata), ..ActionResult::default() };
        let response = ExecuteResponse { result: Some(result), cached_result, ..ExecuteResponse::default() };
        Operation { done: true, result: Some(Outcome::Response(pack(&response))), ..Operation::default() }
    }

    #[test]
    fn stages_are_told_as_far_as_they_have_times() {
        let trace = CallTrace::default();
        note(&trace, &ended(false));
        let told: Vec<_> = trace.take().into_iter().map(|stage| (stage.name, stage.worker)).collect();
        assert_eq!(told, [("queue", String::new()), ("execute", "w".to_owned())]);
        note(&trace, &ended(true));
        assert!(trace.take().is_empty(), "it was not executed for this call");
    }
}
