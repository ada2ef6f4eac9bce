//! What the tests of the reconcilers share: a world of every part, passes of an operator over it, and its shape.

use grid_operator_api::{BuildGrid, CasStorage, WorkerPool};
use grid_operator_controllers::{Context, buildgrid, casstorage, workerpool};
use serde_json::{Value, json};

use crate::model::{Model, context};

/// A grid of every part: database, shared storage, ingress, several replicas, and a pool on it.
fn world() -> Vec<Value> {
    let grid: BuildGrid = from(json!({
        "apiVersion": "grid.build/v1alpha1", "kind": "BuildGrid", "metadata": {"name": "demo", "namespace": "default"},
        "spec": {"topology": "split", "storageRef": {"name": "tier"}, "database": {"secretRef": {"name": "db", "key": "uri"}},
            "services": {"execution": {"replicas": 2}, "cas": {"replicas": 2}},
            "ingress": {"host": "grid.example.org"}}
    }));
    let tier: CasStorage = from(json!({
        "apiVersion": "grid.build/v1alpha1", "kind": "CasStorage", "metadata": {"name": "tier", "namespace": "default"},
        "spec": {"serve": "disk", "replicas": 2, "volume": {"size": "10Gi"}, "storages": [{"name": "disk", "disk": {}}]}
    }));
    let pool: WorkerPool = from(json!({
        "apiVersion": "grid.build/v1alpha1", "kind": "WorkerPool", "metadata": {"name": "gcc", "namespace": "default"},
        "spec": {"gridRef": {"name": "demo"}, "image": "example/gcc:12", "replicas": 3}
    }));
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "default"},
        "data": {"uri": "cG9zdGdyZXNxbDovL2dyaWQ6c2VjcmV0QGRiL2dyaWQ="}
    });
    vec![secret, to(&tier), to(&grid), to(&pool)]
}

pub(crate) fn from<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn to<K: serde::Serialize>(value: &K) -> Value {
    serde_json::to_value(value).unwrap()
}

pub(crate) fn new_world() -> Model {
    let model = Model::default();
    for object in world() {
        model.put(object);
    }
    model
}

/// One pass of all reconcilers; what fails is left for the next.
pub(crate) async fn pass(model: &Model) {
    pass_of(model, &context(model)).await;
}

/// The same of an operator that remembers what it did before.
pub(crate) async fn pass_of(model: &Model, context: &Context) {
    if let Some(tier) = model.object("casstorages", "tier") {
        let _ = casstorage::reconcile(&from(tier), context).await;
    }
    if let Some(grid) = model.object("buildgrids", "demo") {
        let _ = buildgrid::reconcile(&from(grid), context).await;
    }
    for pool in model.names("workerpools") {
        let _ = workerpool::reconcile(&from(model.object("workerpools", &pool).unwrap()), context).await;
    }
}

/// Passes until nothing is written any more.
pub(crate) async fn converge(model: &Model) {
    for _ in 0..20 {
        model.settle();
        model.forget_writes();
        pass(model).await;
        if model.writes().is_empty() {
            return;
        }
    }
    panic!("does not come to rest: {:?}", model.writes());
}

/// The objects without what differs between two runs of the same.
pub(crate) fn shape(model: &Model) -> Vec<Value> {
    let mut objects: Vec<Value> = model.objects().into_values().filter(|o| o["kind"] != "Event").collect();
    for object in &mut objects {
        in_order(object);
        for field in ["uid", "resourceVersion", "generation", "annotations"] {
            object["metadata"].as_object_mut().unwrap().remove(field);
        }
        if let Some(owner) = object["metadata"].get_mut("ownerReferences") {
            owner[0]["uid"] = json!("");
        }
        if object["metadata"]["finalizers"] == json!([]) {
            object["metadata"].as_object_mut().unwrap().remove("finalizers");
        }
        object.as_object_mut().unwrap().remove("status");
        // Certificates are new in each world.
        if object["kind"] == "Secret" || object["metadata"]["name"] == "demo-clients" {
            object.as_object_mut().unwrap().remove("data");
        }
    }
    objects
}

/// In one order: where others' entries stand in a list of named things is the API server's affair.
fn in_order(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(in_order),
        Value::Array(items) => {
            items.iter_mut().for_each(in_order);
            let key = ["mountPath", "name"].into_iter().find(|key| items.iter().all(|i| i[key].is_string()));
            if let Some(key) = key {
                items.sort_by_key(|item| item[key].as_str().map(str::to_owned));
            }
        }
        _ => {}
    }
}

/// Fails with the first object that differs.
pub(crate) fn assert_same(is: &[Value], wanted: &[Value], when: &str) {
    let name = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
    let names = |objects: &[Value]| objects.iter().map(name).collect::<Vec<_>>();
    assert_eq!(names(is), names(wanted), "{when}");
    for (is, wanted) in is.iter().zip(wanted) {
        assert_eq!(is, wanted, "{when}");
    }
}

pub(crate) fn condition(model: &Model, plural: &str, name: &str, type_: &str) -> Value {
    let status = model.object(plural, name).unwrap()["status"].clone();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|c| c["type"] == type_).unwrap_or(Value::Null)
}
