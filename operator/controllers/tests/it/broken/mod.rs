//! The broken manifests of `e2e/bad`: refused by a rule, refused by the schema, or answered by a condition.
//!
//! Rules and conditions are checked here without a cluster, all three on a real API server where `GRID_CLUSTER` is set.

mod cluster;

use std::path::{Path, PathBuf};

use grid_operator_controllers::{Context, buildgrid, casstorage, workerpool};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::model::{Model, context};
use crate::rules;

/// What is to become of a manifest.
enum Expected {
    Rule(String),
    Schema(String),
    Condition { type_: String, status: String, reason: String, message: String },
}

struct Case {
    path: PathBuf,
    documents: Vec<Value>,
    /// What the first document was before, where it is wrong only as a change of that.
    before: Option<Value>,
    expected: Expected,
}

fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    serde_yaml::Deserializer::from_str(&text).map(|d| Value::deserialize(d).unwrap()).collect()
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e/bad");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let is_case = |path: &str| path.ends_with(".yaml") && !path.ends_with(".before.yaml");
    paths.retain(|path| path.to_str().is_some_and(is_case));
    paths.sort();
    assert!(paths.len() >= 60, "only {} manifests", paths.len());
    paths
        .into_iter()
        .map(|path| {
            let before = path.with_extension("before.yaml");
            let before = before.exists().then(|| documents(&before).remove(0));
            let expected = expected(&std::fs::read_to_string(path.with_extension("txt")).unwrap());
            Case { documents: documents(&path), path, before, expected }
        })
        .collect()
}

fn expected(text: &str) -> Expected {
    let text = text.trim_end();
    if let Some(message) = text.strip_prefix("refused by a rule: ") {
        return Expected::Rule(message.to_owned());
    }
    if let Some(message) = text.strip_prefix("refused by the schema: ") {
        return Expected::Schema(message.to_owned());
    }
    let (head, message) = text.split_once(": ").unwrap();
    let words: Vec<&str> = head.split(' ').collect();
    let (type_, status) = words[2].split_once('=').unwrap();
    Expected::Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: words[3].to_owned(),
        message: message.to_owned(),
    }
}

#[test]
fn broken_manifests_by_rule() {
    for case in cases() {
        let path = case.path.display();
        if let Some(before) = &case.before {
            assert_eq!(rules::check(before), Ok(()), "{path}: as it was before");
            assert_eq!(rules::check_change(before, Some(before)), Ok(()), "{path}: left as it was");
            assert_eq!(rules::check(&case.documents[0]), Ok(()), "{path}: it is wrong as a change only");
        }
        let broken: Vec<String> = case
            .documents
            .iter()
            .filter_map(|d| rules::broken(d, case.before.as_ref()).err())
            .flatten()
            .collect();
        match &case.expected {
            Expected::Rule(message) => {
                assert!(broken.len() == 1 && broken[0].contains(message), "{path}: {broken:?}");
            }
            Expected::Schema(_) | Expected::Condition { .. } => {
                assert_eq!(broken, Vec::<String>::new(), "{path}");
            }
        }
    }
}

/// A tier on a disk that was made without servers has no blobs yet, and gets its first server as its condition says.
#[test]
fn a_tier_without_shards_gets_its_first() {
    let of = |replicas: i32| {
        json!({"apiVersion": "grid.build/v1alpha1", "kind": "CasStorage", "metadata": {"name": "tier"},
        "spec": {"serve": "a", "replicas": replicas, "volume": {"size": "1Gi"}, "storages": [{"name": "a", "disk": {}}]}})
    };
    assert_eq!(rules::check_change(&of(1), Some(&of(0))), Ok(()));
    assert!(rules::check_change(&of(0), Some(&of(1))).is_err());
}

/// What leaves the blobs where they are found is nobody's business to refuse.
#[test]
fn storages_come_and_go_beside_those_that_keep_their_names() {
    let tier = |storages: Value| {
        json!({"apiVersion": "grid.build/v1alpha1", "kind": "CasStorage", "metadata": {"name": "tier"},
        "spec": {"serve": "top", "volume": {"size": "1Gi"}, "storages": storages}})
    };
    let top = json!({"name": "top", "sqlIndex": {"storage": "a", "database": {"name": "db", "key": "uri"}}});
    let disk = |name: &str| json!({"name": name, "disk": {}});
    let (one, two) = (tier(json!([top, disk("a")])), tier(json!([top, disk("b"), disk("a")])));
    assert_eq!(rules::check_change(&two, Some(&one)), Ok(()));
    assert_eq!(rules::check_change(&one, Some(&two)), Ok(()));
    let other = tier(json!([{"name": "top", "replicated": {"storages": ["a", "b"]}}, disk("a"), disk("b")]));
    assert_eq!(rules::check_change(&other, Some(&two)), Ok(()), "an index goes, and none takes its place");
}

/// Another bucket or database has a name of its own; where the same one is reached is nobody's business.
#[test]
fn what_lies_elsewhere_is_another_storage() {
    let tier = |name: &str, s3: Value| {
        json!({"apiVersion": "grid.build/v1alpha1", "kind": "CasStorage", "metadata": {"name": "tier"},
        "spec": {"serve": name, "storages": [{"name": name, "s3": s3}]}})
    };
    let s3 =
        |bucket: &str, endpoint: &str| json!({"bucket": bucket, "endpoint": endpoint, "pathPrefix": "p"});
    let old = tier("a", s3("b", "http://s3:9000"));
    assert_eq!(rules::check_change(&tier("a", s3("b", "https://s3.example")), Some(&old)), Ok(()));
    assert!(rules::check_change(&tier("a", s3("other", "http://s3:9000")), Some(&old)).is_err());
    assert_eq!(rules::check_change(&tier("b", s3("other", "http://s3:9000")), Some(&old)), Ok(()));
}

/// What was packed once is packed for good, under whatever name that is served; new storages are as they like.
#[test]
fn a_storage_stays_packed_or_not() {
    let tier = |serve: &str, storages: Value| {
        json!({"apiVersion": "grid.build/v1alpha1", "kind": "CasStorage", "metadata": {"name": "tier"},
        "spec": {"serve": serve, "storages": storages}})
    };
    let sql = |name: &str| json!({"name": name, "sql": {"database": {"name": "db", "key": "uri"}}});
    let packed = |name: &str| json!({"name": name, "zstd": {"storage": "a"}});
    let one = tier("z", json!([sql("a"), packed("z")]));
    assert!(rules::check_change(&tier("a", json!([sql("a")])), Some(&one)).is_err());
    assert_eq!(rules::check_change(&tier("y", json!([sql("a"), packed("y")])), Some(&one)), Ok(()));
    let other = tier("b", json!([sql("b")]));
    assert_eq!(rules::check_change(&one, Some(&other)), Ok(()));
    assert_eq!(rules::check_change(&other, Some(&one)), Ok(()));
}

/// The layout of a grid's servers is its own affair where the blobs are in a tier, and where it takes to one.
#[test]
fn a_grid_on_a_tier_changes_its_topology() {
    let grid = |topology: &str, has_tier: bool| {
        let mut spec = json!({"topology": topology, "database": {"secretRef": {"name": "db", "key": "uri"}}});
        if has_tier {
            spec["storageRef"] = json!({"name": "tier"});
        }
        json!({"apiVersion": "grid.build/v1alpha1", "kind": "BuildGrid", "metadata": {"name": "demo"}, "spec": spec})
    };
    for had_tier in [false, true] {
        for (one, other) in [("combined", "split"), ("split", "combined")] {
            assert_eq!(rules::check_change(&grid(other, true), Some(&grid(one, had_tier))), Ok(()));
        }
    }
}

/// A configuration of the user's own has a volume only where one is asked for, or where the queue is in SQLite.
#[test]
fn a_grid_without_a_volume_leaves_its_own_configuration_for_another_topology() {
    let grid = |spec: Value| json!({"apiVersion": "grid.build/v1alpha1", "kind": "BuildGrid", "metadata": {"name": "demo"}, "spec": spec});
    let database = json!({"secretRef": {"name": "db", "key": "uri"}});
    let config = json!({"name": "grid", "key": "grid.yml"});
    let split = grid(json!({"topology": "split", "database": database}));
    let without = grid(json!({"configFrom": config, "database": database}));
    assert_eq!(rules::check_change(&split, Some(&without)), Ok(()));
    let on_volume = [
        json!({"configFrom": config, "database": database, "storage": {"volume": {"size": "1Gi"}}}),
        json!({"configFrom": config}),
    ];
    for before in on_volume {
        assert!(rules::check_change(&split, Some(&grid(before))).is_err());
    }
}

/// No rule is there that nothing has been seen to break.
#[test]
fn every_rule_has_a_manifest_that_breaks_it() {
    let (of_changes, of_resources): (Vec<Case>, _) =
        cases().into_iter().partition(|case| case.before.is_some());
    let is_broken_by = |rule: &rules::Rule, case: &Case| {
        let kind = rule.place.split('.').next().unwrap();
        matches!(&case.expected, Expected::Rule(message) if case.documents[0]["kind"] == kind && rule.message.contains(message.as_str()))
    };
    let rules = rules::messages();
    let unbroken = rules.iter().filter(|rule| {
        let cases = if rule.is_of_changes { &of_changes } else { &of_resources };
        !cases.iter().any(|case| is_broken_by(rule, case))
    });
    let unbroken: Vec<String> = unbroken.map(|rule| format!("{}: {}", rule.place, rule.message)).collect();
    assert_eq!(unbroken, Vec::<String>::new(), "of {} rules", rules.len());
}

/// Resources that are as they should be: those of the golden folders.
fn good() -> Vec<(PathBuf, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let paths = std::fs::read_dir(folder).unwrap().map(|case| case.unwrap().path().join("input.yaml"));
    paths
        .flat_map(|path| documents(&path).into_iter().map(move |document| (path.clone(), document)))
        .collect()
}

#[test]
fn good_manifests_pass_every_rule() {
    for (path, document) in good() {
        assert_eq!(rules::check(&document), Ok(()), "{}", path.display());
        assert_eq!(rules::check_change(&document, Some(&document)), Ok(()), "{}, unchanged", path.display());
    }
}

#[tokio::test]
async fn broken_manifests_by_condition() {
    for case in cases() {
        let Expected::Condition { .. } = &case.expected else { continue };
        if case.path.ends_with("grid-pod-field-unknown.yaml") {
            // Only the real API server knows the fields of a pod.
            continue;
        }
        let model = Model::default();
        for document in &case.documents {
            model.put(prepared(document, "default"));
        }
        let subject = &case.documents[0];
        for document in case.documents.iter().rev() {
            let current = || model.object(plural(document), name(document));
            if let Some(object) = current() {
                let _ = reconcile(object, &context(&model)).await;
            }
        }
        let object = model.object(plural(subject), name(subject)).unwrap();
        check_condition(&case, &object);
    }
}

async fn reconcile(object: Value, context: &Context) -> Result<(), String> {
    let result = match object["kind"].as_str().unwrap() {
        "BuildGrid" => buildgrid::reconcile(&serde_json::from_value(object).unwrap(), context).await,
        "CasStorage" => casstorage::reconcile(&serde_json::from_value(object).unwrap(), context).await,
        "WorkerPool" => workerpool::reconcile(&serde_json::from_value(object).unwrap(), context).await,
        _ => return Ok(()),
    };
    result.map(|_| ()).map_err(|error| error.to_string())
}

/// As the API server would keep it: in its namespace, with defaults, and secrets in base64.
fn prepared(document: &Value, namespace: &str) -> Value {
    let mut document = document.clone();
    document["metadata"]["namespace"] = json!(namespace);
    if let Some(strings) = document.as_object_mut().unwrap().remove("stringData") {
        for (key, value) in strings.as_object().unwrap() {
            let bytes = k8s_openapi::ByteString(value.as_str().unwrap().as_bytes().to_vec());
            document["data"][key] = serde_json::to_value(bytes).unwrap();
        }
    }
    document
}

fn name(document: &Value) -> &str {
    document["metadata"]["name"].as_str().unwrap()
}

fn plural(document: &Value) -> &'static str {
    match document["kind"].as_str().unwrap() {
        "BuildGrid" => "buildgrids",
        "CasStorage" => "casstorages",
        "WorkerPool" => "workerpools",
        "ConfigMap" => "configmaps",
        _ => "secrets",
    }
}

fn check_condition(case: &Case, object: &Value) {
    let Expected::Condition { type_, status, reason, message } = &case.expected else { return };
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let condition = conditions.iter().find(|c| c["type"] == **type_);
    let condition =
        condition.unwrap_or_else(|| panic!("{}: no {type_} in {conditions:?}", case.path.display()));
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&json!(status), &json!(reason)),
        "{}: {condition}",
        case.path.display()
    );
    let said = condition["message"].as_str().unwrap();
    assert!(said.contains(message.as_str()), "{}: {said}", case.path.display());
}
