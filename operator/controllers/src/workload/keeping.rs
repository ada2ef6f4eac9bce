//! Claims that outlive their resource where that is the wish, whatever else keeps the wish from being brought about: who pauses
//! a resource, or breaks it, may delete it next.
//!
//! A claim that is to go belongs to its StatefulSet, and that to the resource: once the resource is gone, nobody can keep the
//! claim any more. So a resource with such claims has a finalizer, and what it says last goes for them.

use std::time::Duration;

use grid_operator_api::DeletionPolicy;
use grid_operator_apply::{Applied, Kind, Observed, set_finalizer};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::names::Owner;

/// The finalizer of a resource whose claims would go with it.
const CLAIMS: &str = "grid.build/claims";
/// How long a deletion waits until the StatefulSets' controller has seen that claims are to be kept.
const DEADLINE: Duration = Duration::from_secs(60);

/// Has the claims outlive their StatefulSets where that is the wish.
///
/// # Errors
/// Where the API server refuses a write.
pub(crate) async fn keep_claims(
    policy: DeletionPolicy,
    owner: &Owner,
    context: &Context,
    applied: &mut Applied,
) -> Result<()> {
    if policy == DeletionPolicy::Delete {
        return Ok(());
    }
    let kind = Kind::of::<StatefulSet>();
    let sets = applied.observed.iter().filter(|(of, set)| *of == kind && is_doomed(set));
    let sets: Vec<DynamicObject> = sets.map(|(_, set)| set.clone()).collect();
    for set in sets {
        // Of a set without pods nobody else would take the claims away. The set comes last: until then this is done again.
        disown_claims(&set, owner, context).await?;
        let patch = json!({
            "metadata": {"resourceVersion": set.resource_version()},
            "spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain"}},
        });
        let kept = context.applier.patch(&owner.namespace, kind, &set.name_any(), &patch).await?;
        applied.observed.insert(kind, kept);
    }
    Ok(())
}

/// Takes the claims of a StatefulSet away from it.
async fn disown_claims(set: &DynamicObject, owner: &Owner, context: &Context) -> Result<()> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &owner.namespace);
    let list = claims.list(&ListParams::default().labels(&owner.every_claim_selector())).await;
    let list = list.map_err(Error::read(format!("the claims of {}", set.name_any())))?;
    for claim in list.items {
        let (owners, uid) = (claim.owner_references(), set.uid().unwrap_or_default());
        let others: Vec<_> = owners.iter().filter(|owner| owner.uid != uid).collect();
        if others.len() == owners.len() {
            continue;
        }
        let patch = json!({
            "metadata": {"resourceVersion": claim.resource_version(), "ownerReferences": others},
        });
        let kind = Kind::of::<PersistentVolumeClaim>();
        context.applier.patch(&owner.namespace, kind, &claim.name_any(), &patch).await?;
    }
    Ok(())
}

/// Puts the finalizer on a resource whose claims are to go with it, and takes it away once none would.
///
/// # Errors
/// Where the API server refuses the write.
pub(crate) async fn guard<K>(
    resource: &K,
    policy: DeletionPolicy,
    owned: &Observed,
    context: &Context,
) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let wanted = policy == DeletionPolicy::Delete || (is_guarded(resource) && !are_kept(owned));
    set_finalizer(&context.client, &context.leadership, resource, CLAIMS, wanted).await?;
    Ok(())
}

/// Whether the resource's deletion waits for its claims.
pub(crate) fn is_guarded<K: Resource>(resource: &K) -> bool {
    resource.finalizers().iter().any(|finalizer| finalizer == CLAIMS)
}

/// Lets a resource go whose claims go too, or which everybody knows that they stay; false while that is waited for.
///
/// # Errors
/// Where the API server refuses the write.
pub(crate) async fn release<K>(
    resource: &K,
    policy: DeletionPolicy,
    owned: &Observed,
    context: &Context,
) -> Result<bool>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let is_late = waited(resource, context.mint.now()) >= DEADLINE;
    if policy == DeletionPolicy::Retain && !are_kept(owned) && !is_late {
        return Ok(false);
    }
    set_finalizer(&context.client, &context.leadership, resource, CLAIMS, false).await?;
    Ok(true)
}

fn waited<K: Resource>(resource: &K, now: Timestamp) -> Duration {
    let since = resource.meta().deletion_timestamp.as_ref();
    since.and_then(|since| Duration::try_from(now.duration_since(since.0)).ok()).unwrap_or_default()
}

/// No claim goes with its StatefulSet, and the StatefulSets' controller knows it.
fn are_kept(owned: &Observed) -> bool {
    let kind = Kind::of::<StatefulSet>();
    owned.iter().filter(|(of, _)| *of == kind).all(|(_, set)| {
        let seen = set.data.pointer("/status/observedGeneration").and_then(serde_json::Value::as_i64);
        !is_doomed(set) && seen == set.metadata.generation
    })
}

fn is_doomed(set: &DynamicObject) -> bool {
    set.data.pointer("/spec/persistentVolumeClaimRetentionPolicy/whenDeleted") == Some(&json!("Delete"))
}
