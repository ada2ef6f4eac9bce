//! How the last run of the CronJob that expires blobs ended, in its own words: the last line of its log says what was there and
//! what was deleted.

use grid_operator_apply::Wanted;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use super::build::CLEANUP;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::jobs::{has_completed, has_failed, log_tail};
use crate::names::Owner;

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    job: String,
    succeeded: bool,
    said: String,
}

/// The last run that has ended, if there is one.
///
/// # Errors
/// Where Jobs or pods can't be listed.
pub(crate) async fn last(owner: &Owner, context: &Context) -> Result<Option<Run>> {
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), &owner.namespace);
    let selector = owner.pod_selector(CLEANUP);
    let list = jobs.list(&ListParams::default().labels(&selector)).await;
    let list = list.map_err(Error::read(format!("the runs of the cleanup of {}", owner.name)))?;
    let ended = list.items.into_iter().filter(|job| has_completed(job) || has_failed(job));
    let newest = ended.max_by_key(|job| job.metadata.creation_timestamp.clone().map(|time| time.0));
    let Some(job) = newest else { return Ok(None) };
    let name = job.name_any();
    let said = log_tail(context, &owner.namespace, &name, 1).await?;
    let said = said.unwrap_or_else(|| "its log could not be read".to_owned());
    Ok(Some(Run { succeeded: has_completed(&job), job: name, said }))
}

/// What the status says of it.
pub(crate) fn condition(run: &Run) -> Wanted {
    let Run { job, said, .. } = run;
    if run.succeeded {
        Wanted::new("CleanupSucceeded", true, "Cleaned", format!("the Job {job} said: {said}"))
    } else {
        let message = format!("the Job {job} failed, and the next one tries again; it said: {said}");
        Wanted::new("CleanupSucceeded", false, "CleanupFailed", message)
    }
}
