//! What became of Jobs, and the ends of their logs.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams, LogParams};

use crate::context::Context;
use crate::error::{Error, Result};

/// Bytes of a log that go into a condition.
const LOG_BYTES: i64 = 4_096;

/// It ended well.
pub(crate) fn has_completed(job: &Job) -> bool {
    has_condition(job, "Complete")
}

/// It ended, and will not be tried again.
pub(crate) fn has_failed(job: &Job) -> bool {
    has_condition(job, "Failed")
}

fn has_condition(job: &Job, type_: &str) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == type_ && c.status == "True")
}

/// The last lines of the log of a Job's newest pod. That the log can't be had is no reason to fail.
///
/// # Errors
/// Where the pods can't be listed.
pub(crate) async fn log_tail(
    context: &Context,
    namespace: &str,
    job: &str,
    lines: i64,
) -> Result<Option<String>> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let selector = format!("batch.kubernetes.io/job-name={job}");
    let list = pods
        .list(&ListParams::default().labels(&selector))
        .await
        .map_err(Error::read(format!("the pods of the Job {job}")))?;
    let newest =
        list.items.into_iter().max_by_key(|pod| pod.metadata.creation_timestamp.clone().map(|t| t.0));
    let Some(pod) = newest else { return Ok(None) };
    let params = LogParams { tail_lines: Some(lines), limit_bytes: Some(LOG_BYTES), ..LogParams::default() };
    match pods.logs(&pod.name_any(), &params).await {
        Ok(log) => Ok(Some(log.trim().to_owned())),
        Err(error) => {
            tracing::debug!(%error, pod = pod.name_any(), "the log of a Job can't be read");
            Ok(None)
        }
    }
}
