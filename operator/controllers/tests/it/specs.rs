//! Specs in which every field of the CRDs occurs, other values of each field, and what the specs refer to. That none is
//! left out is `fields`' to see.

use serde_json::{Value, json};

use crate::golden::through_types;
use crate::model::Model;
use crate::rules;

/// Whole in themselves: what is in them is Kubernetes', and passed on as it is.
const OPAQUE: [&str; 8] =
    ["podTemplate", "resources", "clients", "databasePods", "worker", "runner", "parentRefs", "annotations"];

/// Specs in which every field occurs.
pub(crate) fn scenes() -> Vec<(&'static str, Value)> {
    [grid_in_one_pod(), grids_of_other_shapes(), tiers(), tiers_of_mutual_tls(), pools()].concat()
}

/// A grid with nearly everything.
fn grid_in_one_pod() -> Vec<(&'static str, Value)> {
    let resources = json!({"limits": {"cpu": "1"}});
    let template = json!({"metadata": {"labels": {"a": "b"}}});
    let service = json!({"replicas": 1, "resources": resources});
    let routes = json!([{"service": "example.Events", "method": "Publish", "backend": {"name": "events", "port": 50051}}]);
    let ingress = json!({"host": "grid.example.org", "className": "nginx", "port": 8443, "annotations": {"a": "b"},
        "bots": true, "routes": routes});
    let windows = json!({"windows": [{"days": ["Saturday"], "start": "10:00", "duration": "2h"}]});
    let secret = |key: &str| json!({"name": "keys", "key": key});
    vec![(
        "BuildGrid",
        json!({"version": "1.0.0", "topology": "combined", "instances": [""],
                "storage": {"deletionPolicy": "Retain", "volume": {"size": "20Gi", "storageClassName": "fast"}},
                "services": {"server": service}, "execution": {"enabled": true, "matchPropertyKeys": ["a"],
                "wildcardPropertyKeys": ["b"], "maxExecutionTimeout": "1h", "refuseUnplaceableAfter": "5m"},
                "actionCache": {"sql": {"maxEntries": 10, "expireUnusedAfter": "30d"}},
                "remoteAsset": {"fetchHosts": ["example.org"]}, "chunking": false, "ingress": ingress,
                "tls": {"selfSigned": {"validity": "30d"}},
                "authorization": {"jwt": {"keySecretRef": secret("jwt"), "algorithm": "rs256", "audiences": ["grid"]},
                    "aclFrom": {"name": "texts", "key": "acl"}, "openInstances": [""]},
                "networkPolicy": {"clients": [{"podSelector": {}}], "databasePods": {"matchLabels": {"a": "b"}}},
                "monitoring": {"interval": "30s", "labels": {"a": "b"}}, "podTemplate": template, "maintenance": windows,
                "tracing": {"endpoint": "http://collector:4318", "samplePercent": 5},
                "rates": {"perSubject": 10, "perConnection": 100}, "grpcWeb": {"origins": ["https://ui.example.org"]}}),
    )]
}

/// Grids with what excludes something else.
fn grids_of_other_shapes() -> Vec<(&'static str, Value)> {
    let resources = json!({"limits": {"cpu": "1"}});
    let secret = |key: &str| json!({"name": "keys", "key": key});
    let authority = secret("ca.crt");
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
                "gateway": {"host": "grid.example.org", "port": 443, "tls": true, "parentRefs": [{"name": "public"}], "bots": true,
                    "routes": [{"service": "example.Events", "method": "Publish", "backend": {"name": "events", "port": 50051}}]},
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
        (
            "BuildGrid",
            json!({"version": "1.0.0", "actionCache": {"redis": {"host": "redis", "port": 6379, "db": 1, "password": secret("a")}}}),
        ),
        (
            "BuildGrid",
            json!({"version": "1.0.0", "actionCache": {"s3": {"bucket": "results", "endpoint": "https://s3.example",
                "credentials": {"accessKey": secret("a"), "secretKey": secret("b")}}}}),
        ),
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
                {"name": "both", "replicated": {"storages": ["shards", "packed"], "copyQueueSize": 10}},
                {"name": "packed", "zstd": {"storage": "sql", "level": 5}},
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

/// Puts there what the specs refer to.
pub(crate) fn add_others(model: &Model) {
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
}

/// A resource as the API server would keep it: with its defaults.
pub(crate) fn resource(kind: &str, name: &str, spec: &Value) -> Value {
    let metadata = json!({"name": name, "namespace": "default"});
    through_types(
        json!({"apiVersion": "grid.build/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}),
    )
}

/// A spec with its defaults.
pub(crate) fn full(kind: &str, spec: &Value) -> Value {
    resource(kind, "x", spec)["spec"].take()
}

/// A spec as a change of another is refused by a rule.
pub(crate) fn is_refused(kind: &str, spec: &Value, before: Option<&Value>) -> bool {
    let value = |spec: &Value| json!({"apiVersion": "grid.build/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec});
    rules::check_change(&value(spec), before.map(value).as_ref()).is_err()
}

/// A field: its name in the schema, and where it is in a spec.
pub(crate) struct Leaf {
    pub(crate) path: String,
    pub(crate) pointer: String,
    schema: &'static Value,
}

impl Leaf {
    /// A spec in which this field has another value.
    pub(crate) fn changed(&self, spec: &Value) -> Value {
        let mut changed = spec.clone();
        let slot = changed.pointer_mut(&self.pointer).unwrap();
        *slot = other(slot, self.schema);
        changed
    }
}

/// All fields of a kind's spec; those of a value's own where there is one.
pub(crate) fn leaves(kind: &str, spec: Option<&Value>) -> Vec<Leaf> {
    let mut found = vec![];
    collect(rules::schema(kind), spec, "", "", &mut found);
    found
}

fn collect(schema: &'static Value, value: Option<&Value>, path: &str, pointer: &str, found: &mut Vec<Leaf>) {
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
            collect(schema, child, &path, &format!("{pointer}/{field}"), found);
        }
    } else if schema["items"]["properties"].is_object() && !OPAQUE.contains(&name) {
        let items = value.and_then(Value::as_array);
        for index in 0..items.map_or(1, Vec::len) {
            let item = items.map(|items| &items[index]);
            collect(&schema["items"], item, path, &format!("{pointer}/{index}"), found);
        }
    } else {
        found.push(Leaf { path: path.to_owned(), pointer: pointer.to_owned(), schema });
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
