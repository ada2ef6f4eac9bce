//! The CronJob that expires blobs: how its last run ended, what that run freed, by its own words, and that nothing is expired
//! while the tier is paused.

use std::collections::BTreeMap;
use std::sync::Arc;

use grid_operator_api::{CasStorage, CleanupStatus};
use grid_operator_apply::{Applied, Kind, Wanted};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use parking_lot::Mutex;
use serde_json::json;

use super::build::CLEANUP;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::fleet::Key;
use crate::jobs::{has_completed, has_failed, log_tail};
use crate::names::{Names, Owner};

/// A run says a line for each index of the tier, and a tier has no more storages.
const LINES: i64 = 32;

/// The condition that tells of it.
const SUCCEEDED: &str = "CleanupSucceeded";

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) result: CleanupStatus,
    message: String,
}

/// The last run of each tier's cleanup, for metrics.
#[derive(Clone, Default)]
pub struct Cleanups(Arc<Mutex<BTreeMap<Key, CleanupStatus>>>);

impl Cleanups {
    /// The tiers of which a run has ended, and how.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(Key, CleanupStatus)> {
        self.0.lock().iter().map(|(tier, result)| (tier.clone(), result.clone())).collect()
    }

    /// Keeps what is known of a tier; nothing where it is about to go.
    pub(crate) fn note(&self, storage: &CasStorage, run: Option<&Run>) {
        let tier = Key::new(&storage.namespace().unwrap_or_default(), &storage.name_any());
        let mut known = self.0.lock();
        match run.filter(|_| storage.metadata.deletion_timestamp.is_none()) {
            Some(run) => known.insert(tier, run.result.clone()),
            None => known.remove(&tier),
        };
    }
}

/// The last run that has ended, if there is one. Of one whose Job or log is gone it is what was found while they were there.
///
/// # Errors
/// Where Jobs or pods can't be listed.
pub(crate) async fn last(storage: &CasStorage, owner: &Owner, context: &Context) -> Result<Option<Run>> {
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), &owner.namespace);
    let selector = owner.pod_selector(CLEANUP);
    let list = jobs.list(&ListParams::default().labels(&selector)).await;
    let list = list.map_err(Error::read(format!("the runs of the cleanup of {}", owner.name)))?;
    let ended = list.items.into_iter().filter(|job| has_completed(job) || has_failed(job));
    let newest = ended.max_by_key(|job| job.metadata.creation_timestamp.clone().map(|time| time.0));
    let known = known(storage);
    let Some(job) = newest else { return Ok(known) };
    let name = job.name_any();
    let log = log_tail(context, &owner.namespace, &name, LINES).await?;
    if log.is_none() && known.as_ref().is_some_and(|run| run.result.job == name) {
        return Ok(known);
    }
    let log = log.unwrap_or_default();
    let (bytes_freed, blobs_freed) = freed(&log);
    let succeeded = has_completed(&job);
    let said = log.lines().last().unwrap_or("its log could not be read");
    let message = if succeeded {
        format!("the Job {name} said: {said}")
    } else {
        format!("the Job {name} failed, and the next one tries again; it said: {said}")
    };
    let result = CleanupStatus { job: name, succeeded, ended_at: ended_at(&job), bytes_freed, blobs_freed };
    Ok(Some(Run { result, message }))
}

/// The last run as the status has it.
fn known(storage: &CasStorage) -> Option<Run> {
    let status = storage.status.as_ref()?;
    let result = status.cleanup.clone()?;
    let said = status.conditions.iter().find(|condition| condition.type_ == SUCCEEDED);
    let message = said.map_or_else(|| format!("the Job {} ended", result.job), |said| said.message.clone());
    Some(Run { result, message })
}

fn ended_at(job: &Job) -> Option<Time> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ends =
        conditions.filter(|c| c.status == "True" && ["Complete", "Failed"].contains(&c.type_.as_str()));
    ends.find_map(|condition| condition.last_transition_time.clone())
}

/// Bytes and blobs that a run's lines name as deleted: `NAME: 9 bytes in 2 blobs, deleted 5 bytes in 1 blobs`.
fn freed(log: &str) -> (i64, i64) {
    let of_line = |line: &str| -> Option<(i64, i64)> {
        let (_, deleted) = line.split_once(", deleted ")?;
        let mut words = deleted.split([' ', ',', ';']);
        Some((words.next()?.parse().ok()?, words.nth(2)?.parse().ok()?))
    };
    let runs = log.lines().filter_map(of_line);
    runs.fold((0, 0), |(bytes, blobs), run| (bytes.saturating_add(run.0), blobs.saturating_add(run.1)))
}

/// What the status says of it.
pub(crate) fn condition(run: &Run) -> Wanted {
    let succeeded = run.result.succeeded;
    let reason = if succeeded { "Cleaned" } else { "CleanupFailed" };
    Wanted::new(SUCCEEDED, succeeded, reason, &run.message)
}

/// Lets no further run begin, where one could: who paused a tier restores or moves it.
///
/// # Errors
/// Where the API server refuses the write.
pub(crate) async fn suspend(owner: &Owner, context: &Context, applied: &mut Applied) -> Result<()> {
    let (kind, name) = (Kind::of::<CronJob>(), Names(&owner.name).cleanup());
    let Some(live) = applied.observed.get(kind, &name) else { return Ok(()) };
    if live.data["spec"]["suspend"] == true {
        return Ok(());
    }
    let metadata = json!({"resourceVersion": live.resource_version()});
    let patch = json!({"metadata": metadata, "spec": {"suspend": true}});
    let suspended = context.applier.patch(&owner.namespace, kind, &name, &patch).await?;
    applied.observed.insert(kind, suspended);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_freed_is_the_sum_of_what_each_index_says() {
        let log = "a: 30 bytes in 3 blobs, deleted 20 bytes in 2 blobs; 5 bytes and 1 blobs above the low watermark were kept\n\
                   b: 7 bytes in 1 blobs, deleted 7 bytes in 1 blobs, failed to delete 0 bytes in 0 blobs\n\
                   c: failed: the database is gone\n";
        assert_eq!(freed(log), (27, 3));
        assert_eq!(freed("deleted everything"), (0, 0));
    }
}
