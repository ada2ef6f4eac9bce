//! Puts a finalizer on a resource or takes it away, over the version that was read.

use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::error::{Error, Result};
use crate::leadership::Leadership;

/// Makes sure that `finalizer` is on the resource exactly if `wanted`; true if something was written.
///
/// # Errors
/// Where the API server refuses it; a conflict where the resource changed since it was read.
pub async fn set_finalizer<K>(
    client: &Client,
    leadership: &Leadership,
    resource: &K,
    finalizer: &str,
    wanted: bool,
) -> Result<bool>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let is_there = resource.finalizers().iter().any(|f| f == finalizer);
    if is_there == wanted {
        return Ok(false);
    }
    if !leadership.is_held() {
        return Err(Error::NotLeader);
    }
    let mut finalizers: Vec<&str> =
        resource.finalizers().iter().map(String::as_str).filter(|f| *f != finalizer).collect();
    if wanted {
        finalizers.push(finalizer);
    }
    let (name, namespace) = (resource.name_any(), resource.namespace().unwrap_or_default());
    let patch =
        json!({"metadata": {"resourceVersion": resource.resource_version(), "finalizers": finalizers}});
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.map_err(|source| {
        Error::Request {
            verb: "change the finalizers of",
            kind: K::kind(&()).into_owned(),
            namespace,
            name,
            source: Box::new(source),
        }
    })?;
    Ok(true)
}
