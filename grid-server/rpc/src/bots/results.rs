//! What bots say of their leases, made into news for the scheduler; results reach the action cache on the way.
//!
//! The order is what makes a result safe: outputs are in the storage before the bot reports, the action cache has
//! the result before the scheduler does, and only then does a client hear of it.

use std::time::{Duration, SystemTime};

use grid_cache::CacheError;
use grid_proto::any;
use grid_proto::reapi::{ActionResult, ExecuteResponse, ExecutedActionMetadata};
use grid_proto::rwapi::{Lease, LeaseState};
use grid_scheduler::history::Usage;
use grid_scheduler::ids::SessionId;
use grid_scheduler::job::Job;
use grid_scheduler::session::{News, ReportedLease};
use grid_scheduler::transition::Cause;
use grid_streams::Executed;
use prost::Message;
use prost_types::Timestamp;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::session::parse_lease_id;
use super::usage;
use crate::execution::ExecutionInstance;
use crate::execution::render::timestamp;
use crate::{Instances, to_status};

/// The news in a bot's list of leases. Leases that the session does not hold are left out: it is told so by their
/// absence from the answer.
pub(super) async fn take(
    instances: &Instances<ExecutionInstance>,
    own: &ExecutionInstance,
    session: SessionId,
    headers: &MetadataMap,
    leases: &[Lease],
) -> Result<Vec<ReportedLease>, Status> {
    let mut taken = Vec::with_capacity(leases.len());
    for lease in leases {
        let Some((job, attempt)) = parse_lease_id(&lease.id) else { continue };
        let mut usage = Usage::default();
        let news = match LeaseState::try_from(lease.state) {
            Ok(LeaseState::Completed) => {
                let held = own.scheduler.leased(session, job, attempt).await.map_err(|e| to_status(&e))?;
                let Some(held) = held else { continue };
                let instance = instances.own(&held.spec.instance).map_or(own, AsRef::as_ref);
                let (news, used) = completed(instance, &held, lease).await?;
                usage = used;
                news
            }
            Ok(LeaseState::Cancelled) => News::Failed(Cause::GivenBack),
            _ => News::Running(progress(headers, &lease.id)),
        };
        taken.push(ReportedLease { job, attempt, news, usage });
    }
    Ok(taken)
}

/// The `ExecutedActionMetadata` that a bot sends of an action that still runs, under what follows the instance in the
/// lease's id.
fn progress(headers: &MetadataMap, lease: &str) -> Option<Vec<u8>> {
    let name = lease.rsplit('/').next()?;
    let value = headers.get_bin(format!("partial-execution-metadata-{name}-bin"))?;
    value.to_bytes().ok().map(|bytes| bytes.to_vec())
}

async fn completed(instance: &ExecutionInstance, job: &Job, lease: &Lease) -> Result<(News, Usage), Status> {
    let status = lease.status.clone().unwrap_or_default();
    let result = lease.result.as_ref().and_then(|result| any::unpack::<ActionResult>(result).ok());
    match Code::from_i32(status.code) {
        Code::Internal | Code::Unknown => return Ok(failed(Cause::Internal)),
        Code::Unavailable => return Ok(failed(Cause::Unavailable)),
        Code::Ok if result.is_none() => {
            tracing::warn!(job = %job.id, "a bot completed a lease without a result");
            return Ok(failed(Cause::Internal));
        }
        _ => {}
    }
    let succeeded = status.code == Code::Ok as i32;
    let mut result = result.map(|result| with_times(result, job));
    if let Some(metadata) = result.as_ref().and_then(|result| result.execution_metadata.as_ref()) {
        instance.scheduler.observe_stages(job, &stages(metadata));
    }
    let (used, statistics) = match &mut result {
        Some(result) => usage::settle(instance, job.spec.action_digest.function(), result).await,
        None => (Usage::default(), None),
    };
    let recorded = async {
        match &result {
            Some(result) if succeeded && job.spec.cacheable => record(instance, job, result).await,
            _ => Ok(()),
        }
    };
    let (recorded, ()) = tokio::join!(recorded, usage::store(instance, statistics));
    recorded?;
    let response = ExecuteResponse { result, status: Some(status), ..ExecuteResponse::default() };
    Ok((News::Finished(response.encode_to_vec().into()), used))
}

/// How long the stages took that the bot told of.
fn stages(told: &ExecutedActionMetadata) -> Vec<(&'static str, Duration)> {
    let between = |name, start: Option<Timestamp>, end: Option<Timestamp>| {
        let (start, end) = (SystemTime::try_from(start?).ok()?, SystemTime::try_from(end?).ok()?);
        Some((name, end.duration_since(start).ok()?))
    };
    let fetch = (told.input_fetch_start_timestamp, told.input_fetch_completed_timestamp);
    let execution = (told.execution_start_timestamp, told.execution_completed_timestamp);
    let upload = (told.output_upload_start_timestamp, told.output_upload_completed_timestamp);
    let stages = [("Fetch", fetch), ("Execution", execution), ("Upload", upload)];
    stages.into_iter().filter_map(|(name, (start, end))| between(name, start, end)).collect()
}

fn failed(cause: Cause) -> (News, Usage) {
    (News::Failed(cause), Usage::default())
}

/// The times that the server knows better than the bot, and those that the bot left out.
fn with_times(mut result: ActionResult, job: &Job) -> ActionResult {
    let metadata = result.execution_metadata.get_or_insert_default();
    metadata.queued_timestamp = Some(timestamp(job.state.queued_at));
    if metadata.worker_start_timestamp.is_none() {
        metadata.worker_start_timestamp = job.state.started_at.map(timestamp);
    }
    if metadata.worker.is_empty()
        && let Some(lease) = &job.state.lease
    {
        lease.bot_id.clone_into(&mut metadata.worker);
    }
    result
}

/// Writes a result to the action cache, once it is known from whom it came. A cache that takes none is no obstacle; one
/// that is away is: the bot tries again, and the result is not lost.
async fn record(instance: &ExecutionInstance, job: &Job, result: &ActionResult) -> Result<(), Status> {
    let Some(cache) = &instance.action_cache else { return Ok(()) };
    let action = &job.spec.action_digest;
    if let (Some(records), Some(lease)) = (&instance.records, &job.state.lease) {
        let executed = Executed {
            instance: job.spec.instance.clone(),
            action: *action,
            worker: lease.bot_id.clone(),
            subject: job.spec.subject.clone(),
            executed_at: records.clock.now(),
        };
        records.provenance.record(executed).await.map_err(|error| to_status(&error))?;
    }
    match cache.update(action, result).await {
        Ok(()) | Err(CacheError::UpdatesNotAllowed | CacheError::AlreadyWritten(_)) => Ok(()),
        Err(error) => Err(to_status(&error)),
    }
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataValue;

    use super::*;

    #[test]
    fn progress_goes_by_what_follows_the_instance() {
        let mut headers = MetadataMap::new();
        headers.insert_bin("partial-execution-metadata-job.2-bin", MetadataValue::from_bytes(b"x"));
        for lease in ["job.2", "an/instance/job.2"] {
            assert_eq!(progress(&headers, lease).as_deref(), Some(&b"x"[..]), "{lease}");
        }
        assert_eq!(progress(&headers, "job"), None);
    }
}
