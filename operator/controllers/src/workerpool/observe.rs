//! The world as a pool needs to know it: its objects, its grid, the Secrets that it names.

use std::collections::BTreeMap;

use grid_operator_api::{BuildGrid, SecretKeyRef, WorkerPool};
use grid_operator_apply::{Kind, Observed};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::Api;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::names::Owner;

/// What exists.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) owned: Observed,
    /// The grid that is named.
    pub(crate) grid: Option<BuildGrid>,
    /// The Secrets that the pool names, by name.
    pub(crate) secrets: BTreeMap<String, Secret>,
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
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    let mut secrets = BTreeMap::new();
    for SecretKeyRef { name, .. } in references(pool) {
        if let Some(secret) = api.get_opt(name).await.map_err(Error::read(format!("the Secret {name}")))? {
            secrets.insert(name.clone(), secret);
        }
    }
    Ok(World { owned, grid, secrets })
}

/// The keys of Secrets that a pool names.
pub(crate) fn references(pool: &WorkerPool) -> impl Iterator<Item = &SecretKeyRef> {
    let reference = &pool.spec.grid_ref;
    let token = reference.credentials.as_ref().map(|c| &c.token_secret_ref);
    let authority = reference.tls.as_ref().map(|t| &t.ca_secret_ref);
    token.into_iter().chain(authority)
}
