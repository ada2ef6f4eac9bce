//! The world as a pool needs to know it: its objects, its grid, the Secrets that it names.

use std::collections::{BTreeMap, BTreeSet};

use grid_operator_api::{BuildGrid, SecretKeyRef, WorkerPool, WorkerPoolSpec};
use grid_operator_apply::{Kind, Observed};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::names::Owner;
use crate::references::{self, Referent};

/// What exists.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) owned: Observed,
    /// The grid that is named.
    pub(crate) grid: Option<BuildGrid>,
    /// The Secrets that the pool names, by name.
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// The pools that share the budget of the grid with it, itself among them; none where there is no budget.
    pub(crate) sharing: Vec<WorkerPool>,
}

/// Looks at everything that the pool's state depends on.
///
/// # Errors
/// Where something can't be asked for. What doesn't exist is no error.
pub(crate) async fn observe(pool: &WorkerPool, context: &Context) -> Result<World> {
    let namespace = pool.namespace().unwrap_or_default();
    let owner = Owner::new(pool, "WorkerPool");
    let kinds = [Kind::of::<ServiceAccount>(), Kind::of::<Deployment>(), Kind::of::<NetworkPolicy>()];
    let owned = Observed::list(&context.client, &namespace, &kinds, &owner.list_selector()).await?;
    let grid = match &pool.spec.grid_ref.name {
        Some(name) => Api::<BuildGrid>::namespaced(context.client.clone(), &namespace)
            .get_opt(name)
            .await
            .map_err(Error::read(format!("the BuildGrid {name}")))?,
        None => None,
    };
    let wanted: BTreeSet<String> = named_keys(pool).map(|reference| reference.name).collect();
    let secrets = references::secrets(&context.client, &namespace, &wanted).await?;
    let sharing = match &grid {
        Some(grid) if grid.spec.worker_budget.is_some() && pool.spec.autoscaling.is_some() => {
            sharing(&namespace, grid, context).await?
        }
        _ => vec![],
    };
    Ok(World { owned, grid, secrets, sharing })
}

/// Whether what a pool is made of may be another where that is.
#[must_use]
pub fn refers_to(pool: &WorkerPool, what: &Referent) -> bool {
    match what {
        Referent::Secret(name) => named_keys(pool).any(|reference| reference.name == *name),
        Referent::ConfigMap(_) => false,
    }
}

/// The autoscaled pools of a grid.
async fn sharing(namespace: &str, grid: &BuildGrid, context: &Context) -> Result<Vec<WorkerPool>> {
    let api: Api<WorkerPool> = Api::namespaced(context.client.clone(), namespace);
    let list = api.list(&ListParams::default()).await.map_err(Error::read("the WorkerPools"))?;
    let shares = |pool: &WorkerPool| {
        pool.spec.grid_ref.name == grid.metadata.name
            && pool.spec.autoscaling.is_some()
            && pool.metadata.deletion_timestamp.is_none()
    };
    Ok(list.items.into_iter().filter(shares).collect())
}

/// The keys of Secrets that a pool names.
pub(crate) fn named_keys(pool: &WorkerPool) -> impl Iterator<Item = SecretKeyRef> {
    let reference = &pool.spec.grid_ref;
    let token = reference.credentials.as_ref().map(|c| c.token_secret_ref.clone());
    let authority = reference.tls.as_ref().map(|t| t.ca_secret_ref.clone());
    let pair = certificate(&pool.spec).into_iter().flat_map(|name| {
        ["tls.crt", "tls.key"].map(|key| SecretKeyRef { name: name.to_owned(), key: key.to_owned() })
    });
    token.into_iter().chain(authority).chain(pair)
}

/// The Secret with what workers show a grid elsewhere.
pub(crate) fn certificate(spec: &WorkerPoolSpec) -> Option<&str> {
    Some(spec.grid_ref.tls.as_ref()?.certificate_secret_ref.as_ref()?.name.as_str())
}
