//! The world as a grid needs to know it: its objects, and what it refers to.

use grid_operator_api::{BuildGrid, CasStorage};
use grid_operator_apply::{Kind, Observed};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{Api, ListParams, LogParams};

use super::rollout::job_failed;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::names::Owner;

/// Lines of a failed migration's log that go into the condition.
const LOG_TAIL_LINES: i64 = 10;

/// What exists.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    /// The grid's own objects.
    pub(crate) owned: Observed,
    /// The CasStorage of `spec.storageRef`.
    pub(crate) storage: Option<CasStorage>,
    /// The Secret of `spec.database`.
    pub(crate) database: Option<Secret>,
    /// The Secret of `spec.tls.secretRef`.
    pub(crate) certificate: Option<Secret>,
    /// The end of a failed migration's log.
    pub(crate) migration_log: Option<String>,
}

/// Kinds of the objects that a grid owns.
pub(crate) fn kinds() -> [Kind; 9] {
    [
        Kind::of::<ServiceAccount>(),
        Kind::of::<Secret>(),
        Kind::of::<ConfigMap>(),
        Kind::of::<Service>(),
        Kind::of::<Ingress>(),
        Kind::of::<Job>(),
        Kind::of::<Deployment>(),
        Kind::of::<StatefulSet>(),
        Kind::of::<PodDisruptionBudget>(),
    ]
}

/// Looks at everything that the grid's state depends on.
///
/// # Errors
/// Where something can't be asked for. What doesn't exist is no error.
pub(crate) async fn observe(grid: &BuildGrid, context: &Context) -> Result<World> {
    let namespace = grid.namespace().unwrap_or_default();
    let owner = Owner::new(grid, "BuildGrid");
    let owned = Observed::list(&context.client, &namespace, &kinds(), &owner.list_selector()).await?;
    let storage = match &grid.spec.storage_ref {
        Some(reference) => Api::<CasStorage>::namespaced(context.client.clone(), &namespace)
            .get_opt(&reference.name)
            .await
            .map_err(Error::read(format!("the CasStorage {}", reference.name)))?,
        None => None,
    };
    let database = grid.spec.database.as_ref().map(|d| d.secret_ref.name.as_str());
    let certificate = grid.spec.tls.as_ref().and_then(|t| t.secret_ref.as_ref()).map(|r| r.name.as_str());
    Ok(World {
        storage,
        database: secret(context, &namespace, database).await?,
        certificate: secret(context, &namespace, certificate).await?,
        migration_log: migration_log(context, &namespace, &owned).await?,
        owned,
    })
}

async fn secret(context: &Context, namespace: &str, name: Option<&str>) -> Result<Option<Secret>> {
    match name {
        Some(name) => Api::<Secret>::namespaced(context.client.clone(), namespace)
            .get_opt(name)
            .await
            .map_err(Error::read(format!("the Secret {name}"))),
        None => Ok(None),
    }
}

/// The end of the log of the newest pod of a failed migration. That the log can't be had is no reason to fail.
async fn migration_log(context: &Context, namespace: &str, owned: &Observed) -> Result<Option<String>> {
    let Some(job) = owned.all::<Job>().into_iter().find(job_failed) else { return Ok(None) };
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let selector = format!("batch.kubernetes.io/job-name={}", job.name_any());
    let list = pods
        .list(&ListParams::default().labels(&selector))
        .await
        .map_err(Error::read(format!("the pods of the Job {}", job.name_any())))?;
    let newest =
        list.items.into_iter().max_by_key(|pod| pod.metadata.creation_timestamp.clone().map(|t| t.0));
    let Some(pod) = newest else { return Ok(None) };
    let params =
        LogParams { tail_lines: Some(LOG_TAIL_LINES), limit_bytes: Some(4_096), ..LogParams::default() };
    match pods.logs(&pod.name_any(), &params).await {
        Ok(log) => Ok(Some(log.trim().to_owned())),
        Err(error) => {
            tracing::debug!(%error, pod = pod.name_any(), "the log of the migration can't be read");
            Ok(None)
        }
    }
}
