//! A support bundle: everything that the operator knows of its resources, as YAML that `kubectl` reads, without secrets.
//!
//! The values of Secrets are replaced by their lengths, those of environment variables that sound like one too. Neighbours:
//! none; it only lists, and what it may not list it says instead.

use grid_operator_api::{BuildGrid, CasStorage, WorkerPool};
use grid_operator_apply::Kind;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, LogParams};
use kube::{Client, CustomResourceExt, ResourceExt};
use serde_json::{Value, json};

use crate::buildgrid::kinds;
use crate::names::managed_selector;

/// Lines of each container's log.
const LOG_LINES: i64 = 300;
/// Bytes of each container's log.
const LOG_BYTES: i64 = 64 << 10;
/// Parts of the names of environment variables whose values nobody else shall see.
const SECRETIVE: [&str; 6] = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "KEY"];

/// Collects the bundle, a document a kind and a document a log; `namespace` limits it to one.
pub async fn bundle(client: &Client, namespace: Option<&str>) -> Vec<Value> {
    let resources = [BuildGrid::api_resource(), CasStorage::api_resource(), WorkerPool::api_resource()];
    let mut documents = vec![];
    for resource in resources {
        documents.push(list(client, namespace, &resource, &ListParams::default()).await);
    }
    let managed = ListParams::default().labels(&managed_selector());
    for kind in made() {
        documents.push(list(client, namespace, &kind.api_resource(), &managed).await);
    }
    documents.extend(logs(client, namespace, &managed).await);
    documents
}

/// Kinds of what the operator and the controllers of workloads make.
fn made() -> impl Iterator<Item = Kind> {
    kinds().into_iter().chain([Kind::of::<CronJob>(), Kind::of::<Pod>()])
}

fn api(client: &Client, namespace: Option<&str>, resource: &ApiResource) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

async fn list(
    client: &Client,
    namespace: Option<&str>,
    resource: &ApiResource,
    params: &ListParams,
) -> Value {
    let listed = api(client, namespace, resource).list(params).await;
    match listed {
        Ok(list) => {
            let items = list.items.iter().filter_map(|object| serde_json::to_value(object).ok());
            let items: Vec<Value> = items.map(|object| readable(resource, object)).collect();
            json!({"apiVersion": "v1", "kind": "List", "items": items})
        }
        Err(error) => {
            json!({"apiVersion": "v1", "kind": "Unavailable", "what": resource.plural, "why": error.to_string()})
        }
    }
}

async fn logs(client: &Client, namespace: Option<&str>, managed: &ListParams) -> Vec<Value> {
    let pods: Api<Pod> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let Ok(list) = pods.list(managed).await else { return vec![] };
    let mut logs = vec![];
    for pod in list.items {
        let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
        let spec = pod.spec.unwrap_or_default();
        let inits = spec.init_containers.into_iter().flatten();
        for container in inits.chain(spec.containers) {
            let params = LogParams {
                container: Some(container.name.clone()),
                tail_lines: Some(LOG_LINES),
                limit_bytes: Some(LOG_BYTES),
                ..LogParams::default()
            };
            let own: Api<Pod> = Api::namespaced(client.clone(), &namespace);
            let log = own.logs(&name, &params).await.unwrap_or_else(|error| format!("unavailable: {error}"));
            logs.push(json!({"apiVersion": "v1", "kind": "PodLog", "namespace": namespace, "pod": name,
                "container": container.name, "log": log}));
        }
    }
    logs
}

/// An object as it may be shown: of a list's items the kind is told, what only servers need is left out.
fn readable(resource: &ApiResource, mut object: Value) -> Value {
    object["apiVersion"] = json!(resource.api_version);
    object["kind"] = json!(resource.kind);
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    if resource.kind == "Secret" {
        for field in ["data", "stringData"] {
            for value in object[field].as_object_mut().into_iter().flat_map(|data| data.values_mut()) {
                let length = value.as_str().map_or(0, str::len);
                *value = json!(format!("({length} characters)"));
            }
        }
    }
    hide(&mut object);
    object
}

/// Hides the values of environment variables that sound secret, wherever they stand.
fn hide(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let is_secretive = map.get("name").and_then(Value::as_str).is_some_and(|name| {
                let name = name.to_uppercase();
                SECRETIVE.iter().any(|part| name.contains(part))
            });
            if is_secretive && map.get("value").is_some_and(Value::is_string) {
                map.insert("value".to_owned(), json!("(hidden)"));
            }
            map.values_mut().for_each(hide);
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;

    use super::*;

    #[test]
    fn secrets_are_not_in_it_wherever_they_stand() {
        let secret = readable(
            &Kind::of::<Secret>().api_resource(),
            json!({"metadata": {"name": "s", "managedFields": []}, "data": {"uri": "aHVudGVyMg=="}}),
        );
        assert_eq!(secret["data"]["uri"], "(12 characters)");
        assert_eq!((&secret["kind"], &secret["metadata"]["managedFields"]), (&json!("Secret"), &Value::Null));
        let env = json!([{"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "MODE", "value": "fast"}]);
        let pod = readable(
            &Kind::of::<Pod>().api_resource(),
            json!({"metadata": {}, "spec": {"podTemplate": {"containers": [{"env": env}]}}}),
        );
        let text = pod.to_string();
        assert!(!text.contains("hunter2") && text.contains("fast"), "{text}");
    }
}
