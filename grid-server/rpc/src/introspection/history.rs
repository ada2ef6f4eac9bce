//! `GetJobHistory`: what happened to a job, as BuildGrid's events with its payloads.
//!
//! The events are told from the job's row and from its leases that ended, so they are there for as long as those are.

use grid_core::{ErrorCode, Timestamp};
use grid_proto::buildgrid::{JobEvent, JobEventType};
use grid_proto::reapi::ExecutedActionMetadata;
use grid_scheduler::history::{Ending, Run};
use grid_scheduler::job::{Job, Outcome};
use grid_scheduler::operation::Operation;
use grid_scheduler::service::Why;
use prost::Message;
use serde_json::{Value, json};

use crate::error::grpc_code;
use crate::execution::render::timestamp;

/// All of them, oldest first.
pub(super) fn events(why: &Why) -> Vec<JobEvent> {
    let job = &why.job;
    let mut events = vec![(job.state.queued_at, JobEventType::Creation, Value::Null)];
    events.extend(why.operations.iter().map(|operation| joined(operation, job)));
    events.extend(why.runs.iter().flat_map(attempt));
    if let (Some(lease), Some(started)) = (&job.state.lease, job.state.started_at) {
        events.push(assignment(started, &lease.bot_id, started, job.state.queued_at));
    }
    events.extend(progress(job));
    events.extend(why.operations.iter().filter(|operation| operation.cancelled).map(|operation| {
        let at = job.state.completed_at.unwrap_or(operation.created_at);
        (at, JobEventType::OperationCancellation, json!({ "operation_name": operation.id.to_string() }))
    }));
    events.extend(end(job, why.runs.first().map(|run| run.bot.as_str())));
    // What happened at one moment stays in the order in which it is told above.
    events.sort_by_key(|(at, ..)| *at);
    let event = |(at, kind, payload): Told| JobEvent {
        event_type: kind.into(),
        timestamp: Some(timestamp(at)),
        payload: payload.to_string(),
    };
    events.into_iter().map(event).collect()
}

type Told = (Timestamp, JobEventType, Value);

fn joined(operation: &Operation, job: &Job) -> Told {
    let at = operation.created_at.max(job.state.queued_at);
    (at, JobEventType::NewOperation, json!({ "operation_name": operation.id.to_string() }))
}

fn assignment(at: Timestamp, bot: &str, started: Timestamp, queued: Timestamp) -> Told {
    let waited = started.since(queued).as_secs();
    (at, JobEventType::Assignment, json!({ "worker_name": bot, "time_in_queue": waited }))
}

/// A lease that ended: that it was given, and what else came of it than the job's end.
fn attempt(run: &Run) -> Vec<Told> {
    let given = assignment(run.started_at, &run.bot, run.started_at, run.queued_at);
    let again = match run.ending {
        Ending::Finished | Ending::Stopped => None,
        Ending::Preempted => Some((run.ended_at, JobEventType::Evicted, Value::Null)),
        Ending::WorkerLost | Ending::Internal | Ending::Unavailable | Ending::GivenBack => {
            let payload = json!({ "attempt_number": run.attempt, "reason": run.ending.name() });
            Some((run.ended_at, JobEventType::Retry, payload))
        }
    };
    std::iter::once(given).chain(again).collect()
}

/// The moments that the worker told of a lease that runs.
fn progress(job: &Job) -> Vec<Told> {
    let Some(lease) = &job.state.lease else { return Vec::new() };
    let told = ExecutedActionMetadata::decode(job.state.progress.as_slice()).unwrap_or_default();
    let moments = [
        ("input_fetch_start_timestamp", told.input_fetch_start_timestamp),
        ("input_fetch_completed_timestamp", told.input_fetch_completed_timestamp),
        ("execution_start_timestamp", told.execution_start_timestamp),
        ("execution_completed_timestamp", told.execution_completed_timestamp),
        ("output_upload_start_timestamp", told.output_upload_start_timestamp),
        ("output_upload_completed_timestamp", told.output_upload_completed_timestamp),
    ];
    let event = |(name, at): (&str, Option<prost_types::Timestamp>)| {
        let at = at?;
        let payload = json!({ "timestamp_name": name, "worker_name": lease.bot_id });
        Some((Timestamp::from_parts(at.seconds, at.nanos), JobEventType::ProgressUpdate, payload))
    };
    moments.into_iter().filter_map(event).collect()
}

/// How it ended, on the bot that had it last.
fn end(job: &Job, bot: Option<&str>) -> Option<Told> {
    let at = job.state.completed_at?;
    Some(match job.state.outcome.as_ref()? {
        Outcome::Failed { code: ErrorCode::Cancelled, .. } => {
            (at, JobEventType::Cancellation, json!({ "worker_name": bot }))
        }
        Outcome::Failed { code, .. } => {
            (at, JobEventType::Completion, json!({ "worker_name": bot, "status": grpc_code(*code) as i32 }))
        }
        Outcome::Finished { .. } => {
            let ran = job.state.started_at.map(|started| at.since(started).as_secs_f64());
            (at, JobEventType::Completion, json!({ "worker_name": bot, "status": 0, "duration": ran }))
        }
    })
}
