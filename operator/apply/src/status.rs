//! Writing a status, only when it changed, and only over the object that it was computed from.

use kube::api::{Api, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::leadership::Leadership;

/// Writes `updated`'s status if it differs from `observed`'s; true if it was written.
///
/// # Errors
/// Where the API server refuses it; a conflict where the object changed since it was read.
pub async fn write_status<K>(
    client: &Client,
    leadership: &Leadership,
    observed: &K,
    updated: &K,
) -> Result<bool>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug
        + PartialEq,
{
    if observed == updated {
        return Ok(false);
    }
    if !leadership.is_held() {
        return Err(Error::NotLeader);
    }
    let namespace = updated.namespace().unwrap_or_default();
    let name = updated.name_any();
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    api.replace_status(&name, &PostParams::default(), updated).await.map_err(|source| Error::Request {
        verb: "update the status of",
        kind: K::kind(&()).into_owned(),
        namespace,
        name,
        source: Box::new(source),
    })?;
    Ok(true)
}
