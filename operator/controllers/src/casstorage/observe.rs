//! The world as a tier needs to know it: its objects, the Secrets that it reads, the grids that use it.

use std::collections::{BTreeMap, BTreeSet};

use grid_operator_api::{BuildGrid, CasStorage};
use grid_operator_apply::{Kind, Observed, content_hash};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::json;

use super::access::{Access, SERVER};
use super::expiry;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::foreign::CERTIFICATE;
use crate::mutual_tls::{self, MutualTls};
use crate::names::{Names, Owner};
use crate::references::{self, Referent};
use crate::server_config::storage::Tree;
use crate::trouble::Trouble;
use crate::workload::check_unchanged;
use crate::workload::revision::kept_secrets;

/// What exists.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    /// The tier's own objects.
    pub(crate) owned: Observed,
    /// Names of the grids that use it.
    pub(crate) used_by: Vec<String>,
    /// Kinds that the cluster doesn't have.
    missing_kinds: Vec<Kind>,
    /// The Secrets of mutual TLS that the spec names.
    certificates: BTreeMap<String, Secret>,
    /// How the last run of its cleanup ended.
    pub(crate) cleaned: Option<expiry::Run>,
    /// The Secrets that it refers to, by name; those that don't exist are missing here.
    secrets: BTreeMap<String, Secret>,
}

/// Kinds of the objects that a tier owns.
pub(crate) fn kinds() -> [Kind; 9] {
    [
        Kind::of::<ServiceAccount>(),
        Kind::of::<Secret>(),
        Kind::of::<ConfigMap>(),
        Kind::of::<Service>(),
        Kind::of::<CronJob>(),
        Kind::of::<Deployment>(),
        Kind::of::<StatefulSet>(),
        Kind::of::<PodDisruptionBudget>(),
        Kind::of::<NetworkPolicy>(),
    ]
}

/// Looks at everything that the tier's state depends on.
///
/// # Errors
/// Where something can't be asked for. What doesn't exist is no error.
pub(crate) async fn observe(storage: &CasStorage, context: &Context) -> Result<World> {
    let namespace = storage.namespace().unwrap_or_default();
    let owner = Owner::new(storage, "CasStorage");
    let (client, selector) = (&context.client, owner.list_selector());
    let mut owned = Observed::list(client, &namespace, &kinds(), &selector).await?;
    let missing_kinds =
        context.optional.list(client, &namespace, &[CERTIFICATE], &selector, &mut owned).await?;
    let grids: Api<BuildGrid> = Api::namespaced(context.client.clone(), &namespace);
    let list =
        grids.list(&ListParams::default()).await.map_err(Error::read("the BuildGrids of the namespace"))?;
    let mut used_by: Vec<String> = list
        .items
        .iter()
        .filter(|grid| grid.spec.storage_ref.as_ref().is_some_and(|r| r.name == storage.name_any()))
        .map(ResourceExt::name_any)
        .collect();
    used_by.sort();
    let wanted = storage_secrets(storage);
    let certificates = mutual_tls::secret_names(&owner.name, storage.spec.mutual_tls.as_ref());
    let cleaned = match &storage.spec.cleanup {
        Some(_) => expiry::last(storage, &owner, context).await?,
        None => None,
    };
    Ok(World {
        cleaned,
        used_by,
        missing_kinds,
        secrets: references::secrets(client, &namespace, &wanted).await?,
        certificates: references::secrets(client, &namespace, &certificates.into_iter().collect()).await?,
        owned,
    })
}

/// The Secrets that its storages read; a spec that doesn't fit together names none yet.
fn storage_secrets(storage: &CasStorage) -> BTreeSet<String> {
    let secrets = Access::of(storage).map(|access| access.tree().secrets.clone()).unwrap_or_default();
    secrets.into_iter().map(|(name, _)| name).collect()
}

/// Whether what a tier is made of may be another where that is.
#[must_use]
pub fn refers_to(storage: &CasStorage, what: &Referent) -> bool {
    match what {
        Referent::Secret(name) => {
            let certificates =
                mutual_tls::secret_names(&storage.name_any(), storage.spec.mutual_tls.as_ref());
            certificates.contains(name) || storage_secrets(storage).contains(name)
        }
        Referent::ConfigMap(_) => false,
    }
}

impl World {
    /// Fails where what exists doesn't go with the wish.
    pub(crate) fn check(&self, storage: &CasStorage, access: Access) -> std::result::Result<Access, Trouble> {
        let set = self.owned.typed::<StatefulSet>(&Names(&storage.name_any()).component(SERVER));
        if let Some(volume) = &storage.spec.volume {
            check_unchanged(set.as_ref(), volume, "spec.volume")?;
        }
        self.check_secrets(access)
    }

    /// How its servers know their callers.
    pub(crate) fn mutual_tls(&self, storage: &CasStorage) -> std::result::Result<Option<MutualTls>, Trouble> {
        let wish = storage.spec.mutual_tls.as_ref();
        mutual_tls::validate(&storage.name_any(), wish, &self.certificates, &self.missing_kinds)
    }

    /// Fails where a key of a Secret is missing.
    fn check_secrets(&self, access: Access) -> std::result::Result<Access, Trouble> {
        for (name, key) in &access.tree().secrets {
            let Some(secret) = self.secrets.get(name) else {
                return Err(Trouble::missing("Secret", name, "spec.storages", "create it in this namespace"));
            };
            if !secret.data.as_ref().is_some_and(|data| data.contains_key(key)) {
                let keys: Vec<&str> = secret.data.iter().flatten().map(|(key, _)| key.as_str()).collect();
                return Err(Trouble::new(
                    "KeyNotFound",
                    format!(
                        "spec.storages names the key {key} of the Secret {name}, which has: {}",
                        keys.join(", ")
                    ),
                ));
            }
        }
        Ok(access)
    }

    /// A hash of the Secrets' contents of which servers read something when they start alone; nothing where there are none.
    pub(crate) fn secrets_hash(&self, tree: &Tree) -> Option<String> {
        let with = |counts: &dyn Fn(&str) -> bool| {
            let counted = self.secrets.iter().filter(|(name, _)| counts(name));
            let data: BTreeMap<&String, _> = counted.map(|(name, secret)| (name, &secret.data)).collect();
            (!data.is_empty()).then(|| content_hash(&json!(data)))
        };
        let hash = with(&|name| tree.at_start.iter().any(|(secret, _)| secret == name));
        // An earlier operator counted all of them.
        kept_secrets(&self.owned, hash, [with(&|_| true)])
    }
}
