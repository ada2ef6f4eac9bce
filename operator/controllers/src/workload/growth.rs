//! Larger volumes: the claims are asked to grow, then the StatefulSet, whose claim template can't be changed, is
//! removed from around its pods and made anew. The pods go on all the while.

use std::cmp::Ordering;

use grid_operator_api::ByteSize;
use grid_operator_apply::{Applied, Kind};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::json;

use super::volume::claimed_size;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::names::{Names, Owner};

/// Brings the claims of a component to `wanted`, where its StatefulSet was made for smaller ones. False while the old
/// StatefulSet is about to leave: the next look goes on.
///
/// # Errors
/// Where the API server refuses: a StorageClass that lets no volume grow says so, and then nothing was changed.
pub(crate) async fn grow(
    context: &Context,
    owner: &Owner,
    component: &str,
    wanted: &ByteSize,
    applied: &mut Applied,
) -> Result<bool> {
    let name = Names(&owner.name).component(component);
    let Some(set) = applied.observed.typed::<StatefulSet>(&name) else { return Ok(true) };
    if set.metadata.deletion_timestamp.is_some() {
        return Ok(false);
    }
    let is_larger = claimed_size(&set).is_some_and(|has| compare(&has, wanted) == Some(Ordering::Less));
    if !is_larger {
        return Ok(true);
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &owner.namespace);
    let selector = ListParams::default().labels(&owner.pod_selector(component));
    let list = claims.list(&selector).await.map_err(Error::read(format!("the claims of {name}")))?;
    for claim in list.items {
        let has = claim.spec.as_ref().and_then(|s| s.resources.as_ref()?.requests.as_ref()?.get("storage"));
        if has.is_some_and(|Quantity(has)| compare(has, wanted) != Some(Ordering::Less)) {
            continue;
        }
        let patch = json!({
            "metadata": {"resourceVersion": claim.resource_version()},
            "spec": {"resources": {"requests": {"storage": wanted.0}}},
        });
        let kind = Kind::of::<PersistentVolumeClaim>();
        context.applier.patch(&owner.namespace, kind, &claim.name_any(), &patch).await?;
    }
    context.applier.leave_pods(&owner.namespace, Kind::of::<StatefulSet>(), &name, applied).await?;
    Ok(false)
}

fn compare(has: &str, wanted: &ByteSize) -> Option<Ordering> {
    Some(ByteSize::from(has).bytes()?.cmp(&wanted.bytes()?))
}
