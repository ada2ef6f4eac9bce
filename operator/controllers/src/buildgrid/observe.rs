//! The world as a grid needs to know it: its objects, and what it refers to.

use std::collections::{BTreeMap, BTreeSet};

use grid_operator_api::{BuildGrid, BuildGridSpec, CasStorage, WorkerPool};
use grid_operator_apply::{Kind, Observed};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use super::raw;
use crate::casstorage::Access;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::jobs::{has_failed, log_tail};
use crate::names::{Names, Owner};
use crate::references::Referent;
use crate::{foreign, mutual_tls, references};

/// Lines of a failed migration's log that go into the condition.
const LOG_TAIL_LINES: i64 = 10;

/// What exists.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    /// The grid's own objects.
    pub(crate) owned: Observed,
    /// The CasStorage of `spec.storageRef`.
    pub(crate) storage: Option<CasStorage>,
    /// The Secrets that the spec names, by name.
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// The ConfigMaps that the spec names, by name.
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    /// The pools of the grid.
    pub(crate) pools: Vec<WorkerPool>,
    /// Kinds that the cluster doesn't have.
    pub(crate) missing_kinds: Vec<Kind>,
    /// The ends of the logs of migrations that failed, by their Jobs.
    pub(crate) migration_logs: BTreeMap<String, String>,
}

/// Kinds of the objects that a grid owns.
pub(crate) fn kinds() -> [Kind; 10] {
    [
        Kind::of::<ServiceAccount>(),
        Kind::of::<Secret>(),
        Kind::of::<ConfigMap>(),
        Kind::of::<Service>(),
        Kind::of::<Ingress>(),
        Kind::of::<NetworkPolicy>(),
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
    let selector = owner.list_selector();
    let mut owned = Observed::list(&context.client, &namespace, &kinds(), &selector).await?;
    let missing_kinds =
        context.optional.list(&context.client, &namespace, &foreign::KINDS, &selector, &mut owned).await?;
    let storage = match &grid.spec.storage_ref {
        Some(reference) => Api::<CasStorage>::namespaced(context.client.clone(), &namespace)
            .get_opt(&reference.name)
            .await
            .map_err(Error::read(format!("the CasStorage {}", reference.name)))?,
        None => None,
    };
    let config_maps =
        references::config_maps(&context.client, &namespace, &config_map_names(&grid.spec)).await?;
    let mut names = secret_names(&grid.name_any(), &grid.spec, &config_maps);
    names.extend(storage.as_ref().map(of_storage).unwrap_or_default());
    Ok(World {
        storage,
        secrets: references::secrets(&context.client, &namespace, &names).await?,
        config_maps,
        pools: pools(grid, &namespace, context).await?,
        migration_logs: migration_logs(context, &namespace, &owned).await?,
        missing_kinds,
        owned,
    })
}

/// Whether what a grid is made of may be another where that is. What its own configuration or its tier reads is not looked at here:
/// then every Secret of the namespace counts.
#[must_use]
pub fn refers_to(grid: &BuildGrid, what: &Referent) -> bool {
    let spec = &grid.spec;
    match what {
        Referent::ConfigMap(name) => config_map_names(spec).contains(name),
        Referent::Secret(name) => {
            spec.config_from.is_some()
                || spec.storage_ref.is_some()
                || secret_names(&grid.name_any(), spec, &BTreeMap::new()).contains(name)
        }
    }
}

/// The ConfigMaps that a spec names.
fn config_map_names(spec: &BuildGridSpec) -> BTreeSet<String> {
    let acl = spec.authorization.as_ref().and_then(|a| a.acl_from.as_ref());
    spec.config_from.iter().chain(acl).map(|reference| reference.name.clone()).collect()
}

/// The Secrets that a spec names, those of the user's own configuration among them.
fn secret_names(
    grid: &str,
    spec: &BuildGridSpec,
    config_maps: &BTreeMap<String, ConfigMap>,
) -> BTreeSet<String> {
    let jwt = spec.authorization.as_ref().and_then(|a| a.jwt.as_ref()?.key_secret_ref.as_ref());
    let database = spec.database.iter().flat_map(|d| std::iter::once(&d.secret_ref).chain(&d.ca_secret_ref));
    let certificate = spec.tls.as_ref().and_then(|t| t.secret_ref.as_ref());
    let mut names: BTreeSet<String> =
        jwt.into_iter().chain(database).map(|reference| reference.name.clone()).collect();
    names.extend(certificate.map(|reference| reference.name.clone()));
    names.extend(spec.action_cache.secrets().into_iter().map(|reference| reference.name.clone()));
    if spec.tls.as_ref().is_some_and(|tls| tls.cert_manager.is_some()) {
        names.insert(Names(grid).certificate());
    }
    names.extend(mutual_tls::secret_names(grid, spec.mutual_tls.as_ref()));
    if let Some(reference) = &spec.config_from
        && let Ok(text) = references::config_text(reference, config_maps, "spec.configFrom")
        && let Ok(raw) = raw::complete(text, spec.execution.enabled)
    {
        names.extend(raw.secrets.into_iter().map(|(name, _)| name));
    }
    names
}

/// The Secrets that the grid's own servers read to open a storage; a spec that doesn't fit together names none yet.
fn of_storage(storage: &CasStorage) -> BTreeSet<String> {
    let access = Access::of(storage).ok().filter(Access::is_direct);
    let secrets = access.into_iter().flat_map(|access| access.tree().secrets.clone());
    secrets.map(|(name, _)| name).collect()
}

/// The pools that name the grid, in the order of their names.
async fn pools(grid: &BuildGrid, namespace: &str, context: &Context) -> Result<Vec<WorkerPool>> {
    let api: Api<WorkerPool> = Api::namespaced(context.client.clone(), namespace);
    let list = api.list(&ListParams::default()).await.map_err(Error::read("the WorkerPools"))?;
    let mut pools = list.items;
    pools.retain(|pool| {
        pool.spec.grid_ref.name == grid.metadata.name && pool.metadata.deletion_timestamp.is_none()
    });
    pools.sort_by_key(ResourceExt::name_any);
    Ok(pools)
}

/// The ends of the logs of the migrations that failed: of one that was given up and of the one that took its place there may be
/// both.
async fn migration_logs(
    context: &Context,
    namespace: &str,
    owned: &Observed,
) -> Result<BTreeMap<String, String>> {
    let mut logs = BTreeMap::new();
    for job in owned.all::<Job>().iter().filter(|job| has_failed(job)).map(ResourceExt::name_any) {
        if let Some(log) = log_tail(context, namespace, &job, LOG_TAIL_LINES).await? {
            logs.insert(job, log);
        }
    }
    Ok(logs)
}
