//! No field is accepted and then ignored: the schema is walked, and each field changed by itself changes an object or
//! what the status says, or is refused.

use std::collections::{BTreeMap, BTreeSet};

use grid_operator_api::{BuildGrid, CasStorage, WorkerPool};
use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::broken::rules;
use crate::golden::through_types;
use crate::model::Model;
use crate::passes::converge;

/// Whole in themselves: what is in them is Kubernetes', and passed on as it is.
const OPAQUE: [&str; 8] =
    ["podTemplate", "resources", "clients", "databasePods", "worker", "runner", "parentRefs", "annotations"];

/// Fields whose effect is not on objects or status; the tests that see it.
const ELSEWHERE: [(&str, &str); 6] = [
    ("WorkerPool priority", "fleet::declaration: Fleet is told"),
    (
        "WorkerPool autoscaling.maxReplicas",
        "scaling::pools_are_declared_with_what_they_offer_and_again_when_they_change",
    ),
    ("WorkerPool autoscaling.targetQueueTime", "workerpool::scaling"),
    (
        "WorkerPool autoscaling.scaleDownDelay",
        "scaling::a_pool_goes_from_zero_to_many_and_back_and_ends_nobody_who_works",
    ),
    ("workerBudget", "scaling::pools_that_share_a_budget_keep_to_it_by_their_priority"),
    ("maintenance.", "rollouts::nothing_begins_outside_of_a_window"),
];

/// Specs in which every field occurs.
fn scenes() -> Vec<(&'static str, Value)> {
    [grid_in_one_pod(), grids_of_other_shapes(), tiers(), tiers_of_mutual_tls(), pools()].concat()
}

/// A grid with nearly everything.
fn grid_in_one_pod() -> Vec<(&'static str, Value)> {
    let resources = json!({"limits": {"cpu": "1"}});
    let template = json!({"metadata": {"labels": {"a": "b"}}});
    let service = json!({"replicas": 1, "resources": resources});
    let ingress =
        json!({"host": "grid.example.org", "className": "nginx", "port": 8443, "annotations": {"a": "b"}});
    let windows = json!({"windows": [{"days": ["Saturday"], "start": "10:00", "duration": "2h"}]});
    let secret = |key: &str| json!({"name": "keys", "key": key});
    vec![(
        "BuildGrid",
        json!({"version": "1.0.0", "topology": "combined", "instances": [""],
                "storage": {"deletionPolicy": "Retain", "volume": {"size": "20Gi", "storageClassName": "fast"}},
                "services": {"server": service}, "execution": {"enabled": true, "matchPropertyKeys": ["a"],
                "wildcardPropertyKeys": ["b"], "maxExecutionTimeout": "1h", "refuseUnplaceableAfter": "5m"},
                "actionCache": {"sql": {"maxEntries": 10, "expireUnusedAfter": "30d"}},
                "remoteAsset": {"fetchHosts": ["example.org"]}, "ingress": ingress,
                "tls": {"selfSigned": {"validity": "30d"}},
                "authorization": {"jwt": {"keySecretRef": secret("jwt"), "algorithm": "rs256", "audiences": ["grid"]},
                    "aclFrom": {"name": "texts", "key": "acl"}, "openInstances": [""]},
                "networkPolicy": {"clients": [{"podSelector": {}}], "databasePods": {"matchLabels": {"a": "b"}}},
                "monitoring": {"interval": "30s", "labels": {"a": "b"}}, "podTemplate": template, "maintenance": windows}),
    )]
}

/// Grids with what excludes something else.
fn grids_of_other_shapes() -> Vec<(&'static str, Value)> {
    let resources = json!({"limits": {"cpu": "1"}});
    let authority = json!({"name": "keys", "key": "ca.crt"});
    let database = json!({"secretRef": {"name": "db", "key": "uri"}, "caSecretRef": authority});
    let service = json!({"replicas": 1, "resources": resources});
    let ingress =
        json!({"host": "grid.example.org", "className": "nginx", "port": 8443, "annotations": {"a": "b"}});
    vec![
        (
            "BuildGrid",
            json!({"version": "1.0.0", "topology": "split", "storageRef": {"name": "tier"}, "database": database,
                "services": {"execution": service, "bots": service, "cas": service, "actionCache": service},
                "actionCache": {"remote": {"url": "https://cache.example", "instanceName": "a"}},
                "gateway": {"host": "grid.example.org", "port": 443, "tls": true, "parentRefs": [{"name": "public"}]},
                "authorization": {"jwt": {"keySetUrls": ["https://keys.example"], "audiences": ["grid"]}}}),
        ),
        (
            "BuildGrid",
            json!({"version": "1.0.0", "configFrom": {"name": "texts", "key": "config"}, "ingress": ingress,
                "execution": {"enabled": false},
                "tls": {"secretRef": {"name": "keys"}}}),
        ),
        (
            "BuildGrid",
            json!({"version": "1.0.0", "actionCache": {"lru": {"maxEntries": 10}}, "ingress": ingress,
                "tls": {"certManager": {"issuerRef": {"name": "ca", "kind": "Issuer"}}},
                "authorization": {"trustedHeaders": {}}}),
        ),
        ("BuildGrid", json!({"version": "1.0.0", "ingress": ingress, "tls": {"disabled": {}}})),
        ("BuildGrid", json!({"version": "1.0.0", "mutualTls": {"selfSigned": {"validity": "30d"}}})),
        (
            "BuildGrid",
            json!({"version": "1.0.0", "mutualTls": {"secretRefs": {"server": {"name": "keys"}, "client": {"name": "keys"}}}}),
        ),
        (
            "BuildGrid",
            json!({"version": "1.0.0", "mutualTls": {"certManager": {"issuerRef": {"name": "ca", "kind": "Issuer"}}}}),
        ),
    ]
}

/// Tiers of every kind of storage.
fn tiers() -> Vec<(&'static str, Value)> {
    let resources = json!({"limits": {"cpu": "1"}});
    let template = json!({"metadata": {"labels": {"a": "b"}}});
    let windows = json!({"windows": [{"days": ["Saturday"], "start": "10:00", "duration": "2h"}]});
    let secret = |key: &str| json!({"name": "keys", "key": key});
    vec![
        (
            "CasStorage",
            json!({"version": "1.0.0", "serve": "disk", "replicas": 2, "volume": {"size": "20Gi", "storageClassName": "fast"},
                "storages": [{"name": "disk", "disk": {"size": "10Gi"}}], "resources": resources, "podTemplate": template,
                "maintenance": windows}),
        ),
        (
            "CasStorage",
            json!({"version": "1.0.0", "serve": "index", "storages": [
                {"name": "index", "sqlIndex": {"storage": "s3", "database": secret("uri"), "maxInlineBlobSize": "1Ki",
                    "promisedLifetime": "3h"}},
                {"name": "s3", "s3": {"bucket": "b", "endpoint": "https://s3.example", "hashPrefixSize": 2, "pathPrefix": "p",
                    "credentials": {"accessKey": secret("a"), "secretKey": secret("b")}}}],
                "cleanup": {"schedule": "*/5 * * * *", "highWatermark": "10Gi", "lowWatermark": "8Gi", "batchSize": "1Gi",
                    "onlyIfUnusedFor": "3h"}}),
        ),
        (
            "CasStorage",
            json!({"version": "1.0.0", "serve": "top", "storages": [
                {"name": "top", "withCache": {"cache": "memory", "fallback": "sizes", "deferFallbackWrites": true}},
                {"name": "memory", "lru": {"size": "1Gi"}},
                {"name": "sizes", "sizeDifferentiated": {"fallback": "both",
                    "sizeLimitedStorages": [{"storage": "redis", "maxSize": "1Mi"}]}},
                {"name": "redis", "redis": {"host": "redis", "port": 6379, "db": 1, "password": secret("a")}},
                {"name": "both", "replicated": {"storages": ["shards", "sql"], "copyQueueSize": 10}},
                {"name": "shards", "sharded": {"shards": ["one", "two"]}},
                {"name": "one", "remote": {"url": "https://one.example", "instanceName": "a"}},
                {"name": "two", "remote": {"url": "https://two.example", "instanceName": "a", "credentials": {
                    "tokenSecretRef": secret("a"), "caSecretRef": secret("ca.crt"),
                    "certificateSecretRef": {"name": "keys"}}}},
                {"name": "sql", "sql": {"database": secret("uri")}}]}),
        ),
    ]
}

/// Tiers whose callers show certificates.
fn tiers_of_mutual_tls() -> Vec<(&'static str, Value)> {
    let ways = [
        json!({"selfSigned": {"validity": "30d"}}),
        json!({"secretRefs": {"server": {"name": "keys"}, "client": {"name": "keys"}}}),
        json!({"certManager": {"issuerRef": {"name": "ca", "kind": "Issuer"}}}),
    ];
    let tier = |way: &Value| {
        let storages = json!([{"name": "disk", "disk": {}}]);
        json!({"version": "1.0.0", "serve": "disk", "volume": {"size": "20Gi"}, "storages": storages, "mutualTls": way})
    };
    ways.iter().map(|way| ("CasStorage", tier(way))).collect()
}

/// Pools of a grid here and of one elsewhere.
fn pools() -> Vec<(&'static str, Value)> {
    let resources = json!({"limits": {"cpu": "1"}});
    let template = json!({"metadata": {"labels": {"a": "b"}}});
    let secret = |key: &str| json!({"name": "keys", "key": key});
    vec![
        (
            "WorkerPool",
            json!({"version": "1.0.0", "gridRef": {"name": "demo"}, "image": "gcc", "concurrency": 2, "replicas": 2,
                "limits": {"memory": "1Gi", "processes": 100, "fileSize": "1Gi", "disk": "1Gi", "log": "1Mi"},
                "allowNetwork": true, "isolation": "bubblewrap", "seccompProfile": "p.json", "instanceName": "", "egress": "grid",
                "properties": [{"name": "a", "value": "b"}], "cache": {"size": "1Gi", "storageClassName": "fast"},
                "prefetch": 2, "persistentWorkers": {"max": 4, "idle": "90s"},
                "preemptionNotice": {"url": "http://metadata.example/preempted", "header": "Metadata-Flavor: Google"},
                "resources": {"worker": resources, "runner": resources}, "gracePeriodSeconds": 30, "podTemplate": template}),
        ),
        (
            "WorkerPool",
            json!({"version": "1.0.0", "image": "gcc", "gridRef": {"address": "https://grid.example:443",
                "casAddress": "https://cas.example:443",
                "tls": {"caSecretRef": secret("a"), "certificateSecretRef": {"name": "keys"}},
                "credentials": {"tokenSecretRef": secret("b")}}}),
        ),
        (
            "WorkerPool",
            json!({"version": "1.0.0", "gridRef": {"name": "demo"}, "image": "buildbox", "runtime": "buildbox",
                "buildbox": {"run": "/usr/bin/buildbox-run"}}),
        ),
        (
            "WorkerPool",
            json!({"version": "1.0.0", "gridRef": {"name": "demo"}, "image": "gcc",
                "autoscaling": {"minReplicas": 1, "maxReplicas": 5, "targetQueueTime": "5s", "scaleDownDelay": "5m"}}),
        ),
    ]
}

const CONFIG: &str = r#"
server:
  - !channel {address: "0.0.0.0:50051", insecure-mode: true}
instances:
  - name: main
    storages:
      - !remote-storage &cas {url: "https://cas.example", instance-name: ""}
    services:
      - !cas {storage: *cas}
"#;

fn world(kind: &str, spec: &Value) -> Model {
    let model = Model::default();
    let named = |name: &str| json!({"name": name, "namespace": "default"});
    let uri = "cG9zdGdyZXNxbDovL2dyaWQ6c2VjcmV0QGRiL2dyaWQ=";
    for (name, data) in [
        ("db", json!({"uri": uri})),
        (
            "keys",
            json!({"jwt": "YQ==", "a": "YQ==", "b": "Yg==", "uri": uri, "tls.crt": "YQ==", "tls.key": "Yg==", "ca.crt": "Yw=="}),
        ),
    ] {
        model.put(json!({"apiVersion": "v1", "kind": "Secret", "metadata": named(name), "data": data}));
    }
    let texts = json!({"acl": "[]", "config": CONFIG});
    model.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": named("texts"), "data": texts}));
    let resource = |kind: &str, name: &str, spec: &Value| {
        through_types(
            json!({"apiVersion": "grid.build/v1alpha1", "kind": kind, "metadata": named(name), "spec": spec}),
        )
    };
    if kind == "BuildGrid" {
        let tier =
            json!({"serve": "s", "storages": [{"name": "s", "remote": {"url": "https://cas.example"}}]});
        model.put(resource("CasStorage", "tier", &tier));
    }
    if kind == "WorkerPool" {
        model.put(resource("BuildGrid", "demo", &json!({"version": "1.0.0", "instances": ["", "other"]})));
    }
    let name = match kind {
        "BuildGrid" => "demo",
        "CasStorage" => "tier",
        _ => "gcc",
    };
    model.put(resource(kind, name, spec));
    model
}

/// Everything that can be seen from outside, but the spec itself and what tells that it changed.
async fn effect(kind: &str, spec: &Value) -> Vec<Value> {
    let model = world(kind, spec);
    converge(&model).await;
    let mut objects: Vec<Value> = model.objects().into_values().filter(|o| o["kind"] != "Event").collect();
    for object in &mut objects {
        let own = object["apiVersion"] == "grid.build/v1alpha1";
        let metadata = object["metadata"].as_object_mut().unwrap();
        for field in ["uid", "resourceVersion", "generation", "ownerReferences"] {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("grid.build/applied");
            annotations.remove("grid.build/wish");
        }
        if own {
            object.as_object_mut().unwrap().remove("spec");
        } else {
            object.as_object_mut().unwrap().remove("status");
        }
        // Certificates are new each time; what they are for is noted beside them.
        if object["kind"] == "Secret" || object["metadata"]["name"] == "demo-clients" {
            object.as_object_mut().unwrap().remove("data");
        }
    }
    objects
}

/// The resource's own status says that something is wrong.
fn is_in_trouble(kind: &str, objects: &[Value]) -> bool {
    let of_kind = objects.iter().filter(|object| object["kind"] == kind);
    let conditions = of_kind.flat_map(|object| object["status"]["conditions"].as_array().unwrap());
    conditions.into_iter().any(|condition| condition["type"] == "Degraded" && condition["status"] == "True")
}

/// A field: its name in the schema, and where it is in a spec.
struct Leaf {
    path: String,
    pointer: String,
    schema: Value,
}

/// All fields of a schema; those of a value's own where there is one.
fn leaves(schema: &Value, value: Option<&Value>, path: &str, pointer: &str, found: &mut Vec<Leaf>) {
    let name = path.rsplit('.').next().unwrap_or_default();
    // A pool's resources are those of its two containers; all others are Kubernetes' own.
    let is_opaque = OPAQUE.contains(&name) && schema["properties"]["worker"].is_null();
    if let Some(properties) = schema["properties"].as_object().filter(|_| !is_opaque) {
        for (field, schema) in properties {
            let child = value.map(|value| &value[field]);
            if child.is_some_and(Value::is_null) {
                continue;
            }
            let path = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
            leaves(schema, child, &path, &format!("{pointer}/{field}"), found);
        }
    } else if schema["items"]["properties"].is_object() && !OPAQUE.contains(&name) {
        let items = value.and_then(Value::as_array);
        for index in 0..items.map_or(1, Vec::len) {
            let item = items.map(|items| &items[index]);
            leaves(&schema["items"], item, path, &format!("{pointer}/{index}"), found);
        }
    } else {
        found.push(Leaf { path: path.to_owned(), pointer: pointer.to_owned(), schema: schema.clone() });
    }
}

/// Another value of a field.
fn other(value: &Value, schema: &Value) -> Value {
    let choices = |schema: &Value| schema["enum"].as_array().cloned().unwrap_or_default();
    if let Some(choice) = choices(schema).into_iter().find(|choice| choice != value && !choice.is_null()) {
        return choice;
    }
    match value {
        Value::Bool(is) => json!(!is),
        Value::Number(number) => json!(number.as_i64().unwrap() + 1),
        Value::String(text) if text.as_bytes().first().is_some_and(u8::is_ascii_digit) => {
            json!(format!("2{text}"))
        }
        Value::String(text) => json!(format!("{text}x")),
        Value::Array(items) => {
            let mut items = items.clone();
            let more = items.last().map_or(json!("x"), |last| match last {
                Value::Object(_) => json!({"podSelector": {"matchLabels": {"x": "y"}}, "name": "x"}),
                last => other(last, &schema["items"]),
            });
            items.push(more);
            json!(items)
        }
        Value::Object(map) if map.contains_key("limits") => json!({"limits": {"cpu": "7"}}),
        Value::Object(map) if map.contains_key("metadata") => json!({"metadata": {"labels": {"x": "y"}}}),
        Value::Object(map) if map.contains_key("matchLabels") => json!({"matchLabels": {"x": "y"}}),
        Value::Object(map) if !map.is_empty() => json!({"x": "y"}),
        Value::Object(_) | Value::Null => Value::Null,
    }
}

fn schema(kind: &str) -> Value {
    let crd = match kind {
        "BuildGrid" => BuildGrid::crd(),
        "CasStorage" => CasStorage::crd(),
        _ => WorkerPool::crd(),
    };
    let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
    serde_json::to_value(schema).unwrap()["properties"]["spec"].clone()
}

fn is_elsewhere(kind: &str, path: &str) -> bool {
    let name = format!("{kind} {path}");
    ELSEWHERE.iter().any(|(field, _)| name == *field || path.starts_with(field))
}

/// A spec is refused by a rule, or is none of the types'.
fn is_refused(kind: &str, spec: &Value) -> bool {
    let value =
        json!({"apiVersion": "grid.build/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec});
    rules(&value).is_err()
}

#[tokio::test]
async fn every_field_has_an_effect() {
    let mut missing: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for kind in ["BuildGrid", "CasStorage", "WorkerPool"] {
        let mut all = vec![];
        leaves(&schema(kind), None, "", "", &mut all);
        let names = all.into_iter().map(|leaf| leaf.path).filter(|path| !is_elsewhere(kind, path));
        missing.insert(kind, names.collect());
    }
    let mut idle = vec![];
    for (kind, spec) in scenes() {
        assert!(!is_refused(kind, &spec), "{kind} {spec}");
        let full = through_types(json!({"apiVersion": "grid.build/v1alpha1", "kind": kind,
            "metadata": {"name": "x", "namespace": "default"}, "spec": spec}))["spec"]
            .clone();
        let before = effect(kind, &full).await;
        assert!(!is_in_trouble(kind, &before), "{kind} {spec}: what is in trouble shows no effect");
        let mut found = vec![];
        leaves(&schema(kind), Some(&full), "", "", &mut found);
        for leaf in found.iter().filter(|leaf| !is_elsewhere(kind, &leaf.path)) {
            if !missing.get_mut(kind).unwrap().remove(&leaf.path) {
                continue;
            }
            let mut changed = full.clone();
            let slot = changed.pointer_mut(&leaf.pointer).unwrap();
            *slot = other(slot, &leaf.schema);
            if !is_refused(kind, &changed) && effect(kind, &changed).await == before {
                idle.push(format!("{kind} {}", leaf.path));
            }
        }
    }
    assert_eq!(idle, Vec::<String>::new(), "these are accepted, and nothing comes of them");
    missing.retain(|_, names| !names.is_empty());
    assert_eq!(missing, BTreeMap::new(), "these are in no scene");
}
