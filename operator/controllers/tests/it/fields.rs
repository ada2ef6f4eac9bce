//! No field is accepted and then ignored: the schema is walked, and each field changed by itself changes an object or
//! what the status says, or is refused. Changed back, it leaves no trace.

use std::collections::{BTreeMap, BTreeSet};

use grid_operator_controllers::{Referent, buildgrid, casstorage, workerpool};
use serde_json::{Value, json};

use crate::model::Model;
use crate::passes::{assert_same, converge, from, shape};
use crate::specs::{add_others, full, is_refused, leaves, resource, scenes};

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

fn world(kind: &str, spec: &Value) -> Model {
    let model = Model::default();
    add_others(&model);
    if kind == "BuildGrid" {
        let tier =
            json!({"serve": "s", "storages": [{"name": "s", "remote": {"url": "https://cas.example"}}]});
        model.put(resource("CasStorage", "tier", &tier));
    }
    if kind == "WorkerPool" {
        model.put(resource("BuildGrid", "demo", &json!({"version": "1.0.0", "instances": ["", "other"]})));
    }
    model.put(resource(kind, place(kind).1, spec));
    model
}

/// The plural of a kind, and the name of the one that is looked at.
fn place(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "BuildGrid" => ("buildgrids", "demo"),
        "CasStorage" => ("casstorages", "tier"),
        _ => ("workerpools", "gcc"),
    }
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

fn is_elsewhere(kind: &str, path: &str) -> bool {
    let name = format!("{kind} {path}");
    ELSEWHERE.iter().any(|(field, _)| name == *field || path.starts_with(field))
}

#[tokio::test]
async fn every_field_has_an_effect() {
    let mut missing: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for kind in ["BuildGrid", "CasStorage", "WorkerPool"] {
        let names = leaves(kind, None).into_iter().map(|leaf| leaf.path);
        missing.insert(kind, names.filter(|path| !is_elsewhere(kind, path)).collect());
    }
    let mut idle = vec![];
    for (kind, spec) in scenes() {
        assert!(!is_refused(kind, &spec, None), "{kind} {spec}");
        let full = full(kind, &spec);
        let before = effect(kind, &full).await;
        assert!(!is_in_trouble(kind, &before), "{kind} {spec}: what is in trouble shows no effect");
        for leaf in leaves(kind, Some(&full)).iter().filter(|leaf| !is_elsewhere(kind, &leaf.path)) {
            if !missing.get_mut(kind).unwrap().remove(&leaf.path) {
                continue;
            }
            let changed = leaf.changed(&full);
            if !is_refused(kind, &changed, None) && effect(kind, &changed).await == before {
                idle.push(format!("{kind} {}", leaf.path));
            }
        }
    }
    assert_eq!(idle, Vec::<String>::new(), "these are accepted, and nothing comes of them");
    missing.retain(|_, names| !names.is_empty());
    assert_eq!(missing, BTreeMap::new(), "these are in no scene");
}

/// Each field to another value and back: everything is as before, and comes to rest there.
#[tokio::test]
async fn every_field_changed_and_changed_back_leaves_no_trace() {
    let mut seen = BTreeSet::new();
    for (kind, spec) in scenes() {
        let mut full = full(kind, &spec);
        // What the number of pods is then, depends on what was before: `scaling` looks at that.
        full.as_object_mut().unwrap().remove("autoscaling");
        let model = world(kind, &full);
        converge(&model).await;
        let wanted = shape(&model);
        let (plural, name) = place(kind);
        for leaf in leaves(kind, Some(&full)) {
            let changed = leaf.changed(&full);
            if is_refused(kind, &changed, Some(&full)) || is_refused(kind, &full, Some(&changed)) {
                continue;
            }
            if !seen.insert(format!("{kind} {}", leaf.path)) {
                continue;
            }
            for spec in [&changed, &full] {
                model.edit(plural, name, |object| object["spec"] = resource(kind, name, spec)["spec"].take());
                converge(&model).await;
            }
            assert_same(&shape(&model), &wanted, &format!("{kind} {} to another value and back", leaf.path));
        }
    }
}

/// What a resource reads by name and the operator didn't make is known to be referred to, so that a change of it is noticed at once.
#[tokio::test]
async fn what_is_read_is_referred_to() {
    for (kind, spec) in scenes() {
        let model = world(kind, &full(kind, &spec));
        converge(&model).await;
        let (plural, name) = place(kind);
        let object = model.object(plural, name).unwrap();
        let refers = |what: &Referent| match kind {
            "BuildGrid" => buildgrid::refers_to(&from(object.clone()), what),
            "CasStorage" => casstorage::refers_to(&from(object.clone()), what),
            _ => workerpool::refers_to(&from(object.clone()), what),
        };
        let referents = model.reads().into_iter().filter_map(|(plural, name)| match plural.as_str() {
            "secrets" => Some(Referent::Secret(name)),
            "configmaps" => Some(Referent::ConfigMap(name)),
            _ => None,
        });
        let is_ours = |what: &Referent| {
            match what {
                Referent::Secret(name) => model.object("secrets", name),
                Referent::ConfigMap(name) => model.object("configmaps", name),
            }
            .is_some_and(|object| {
                object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "grid-operator"
            })
        };
        let unknown: Vec<Referent> = referents.filter(|what| !is_ours(what) && !refers(what)).collect();
        assert_eq!(unknown, [], "{kind} {spec}");
        assert!(!refers(&Referent::ConfigMap("kube-root-ca.crt".to_owned())), "{kind} {spec}");
        let is_exact = spec["storageRef"].is_null() && spec["configFrom"].is_null();
        assert!(!is_exact || !refers(&Referent::Secret("unrelated".to_owned())), "{kind} {spec}");
    }
}
