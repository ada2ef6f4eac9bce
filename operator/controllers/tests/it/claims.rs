//! Claims of servers with a volume: what is to be retained is retained whatever keeps the rest of a wish from being brought
//! about, and a volume that is there goes on being used.

use serde_json::{Value, json};

use crate::model::Model;
use crate::passes::{condition, converge, new_world, pass};

const WHEN_DELETED: &str = "/spec/persistentVolumeClaimRetentionPolicy/whenDeleted";

fn when_deleted(model: &Model, set: &str) -> Value {
    model.object("statefulsets", set).unwrap().pointer(WHEN_DELETED).cloned().unwrap_or_default()
}

/// A grid of one pod, with everything on its volume.
fn grid(spec: &Value) -> Value {
    json!({"apiVersion": "grid.build/v1alpha1", "kind": "BuildGrid",
        "metadata": {"name": "demo", "namespace": "default"}, "spec": spec})
}

#[tokio::test]
async fn a_tier_that_is_paused_or_wrong_keeps_the_claims_that_it_is_told_to_keep() {
    for broken in [json!({"paused": true}), json!({"serve": "nothing"}), json!({"volume": {"size": "1Gi"}})] {
        let model = new_world();
        model.edit("casstorages", "tier", |tier| tier["spec"]["deletionPolicy"] = json!("Delete"));
        converge(&model).await;
        assert_eq!(when_deleted(&model, "tier-server"), "Delete");
        model.edit("casstorages", "tier", |tier| {
            tier["spec"].as_object_mut().unwrap().extend(broken.as_object().unwrap().clone());
        });
        converge(&model).await;
        assert_eq!(when_deleted(&model, "tier-server"), "Delete", "{broken}");
        model.edit("casstorages", "tier", |tier| tier["spec"]["deletionPolicy"] = json!("Retain"));
        converge(&model).await;
        assert_eq!(when_deleted(&model, "tier-server"), "Retain", "{broken}");
    }
}

#[tokio::test]
async fn a_tier_whose_deletion_waits_can_still_be_told_to_keep_its_claims() {
    let model = new_world();
    model.edit("casstorages", "tier", |tier| tier["spec"]["deletionPolicy"] = json!("Delete"));
    converge(&model).await;
    model.edit("casstorages", "tier", |tier| {
        tier["metadata"]["deletionTimestamp"] = json!("2026-01-01T11:59:00Z");
        tier["spec"]["deletionPolicy"] = json!("Retain");
    });
    pass(&model).await;
    assert_eq!(when_deleted(&model, "tier-server"), "Retain");
}

#[tokio::test]
async fn a_grid_that_is_paused_keeps_the_claim_that_it_is_told_to_keep() {
    let model = Model::default();
    model.put(grid(&json!({"storage": {"deletionPolicy": "Delete"}})));
    converge(&model).await;
    assert_eq!(when_deleted(&model, "demo-server"), "Delete");
    model.edit("buildgrids", "demo", |grid| grid["spec"] = json!({"paused": true}));
    converge(&model).await;
    assert_eq!(when_deleted(&model, "demo-server"), "Retain");
}

#[tokio::test]
async fn a_grid_that_takes_to_a_tier_keeps_its_queue_on_the_volume_that_it_has() {
    let model = new_world();
    let spec = json!({"storage": {"volume": {"size": "50Gi", "storageClassName": "fast"}}});
    model.edit("buildgrids", "demo", |object| object["spec"] = spec);
    converge(&model).await;
    model.edit("buildgrids", "demo", |object| object["spec"] = json!({"storageRef": {"name": "tier"}}));
    converge(&model).await;
    let ready = condition(&model, "buildgrids", "demo", "Ready");
    assert_eq!(ready["status"], "True", "{ready}");
    let set = model.object("statefulsets", "demo-server").unwrap();
    let claim = &set["spec"]["volumeClaimTemplates"][0]["spec"];
    assert_eq!(
        (&claim["resources"]["requests"]["storage"], &claim["storageClassName"]),
        (&json!("50Gi"), &json!("fast"))
    );
}

fn finalizers(model: &Model, plural: &str, name: &str) -> Value {
    model.object(plural, name).unwrap()["metadata"]["finalizers"].clone()
}

/// The claim that the StatefulSet's controller made, and that is to go with the set.
fn put_claim(model: &Model, kind: &str, owner: &str) {
    let set = format!("{owner}-server");
    let uid = model.object("statefulsets", &set).unwrap()["metadata"]["uid"].clone();
    let labels = json!({"app.kubernetes.io/instance": owner, "grid.build/kind": kind,
        "app.kubernetes.io/component": "server"});
    let reference = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": set, "uid": uid});
    model.put(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {}, "metadata": {
        "name": format!("data-{set}-0"), "namespace": "default", "labels": labels, "ownerReferences": [reference]}}));
}

/// Everything that the resource owns goes, as where nothing holds it back any more.
fn goes(model: &Model, plural: &str, name: &str) -> bool {
    let is_held = finalizers(model, plural, name).as_array().is_some_and(|held| !held.is_empty());
    if !is_held {
        model.delete(plural, name);
    }
    !is_held
}

#[tokio::test]
async fn claims_that_are_kept_at_the_last_moment_are_kept() {
    for (plural, kind, name) in [("buildgrids", "BuildGrid", "demo"), ("casstorages", "CasStorage", "tier")] {
        let model = Model::default();
        let mut resource = match kind {
            "BuildGrid" => grid(&json!({"storage": {"deletionPolicy": "Delete"}})),
            _ => new_world().object(plural, name).unwrap(),
        };
        resource["spec"]["deletionPolicy"] = if kind == "BuildGrid" { Value::Null } else { json!("Delete") };
        model.put(resource);
        converge(&model).await;
        assert_eq!(finalizers(&model, plural, name), json!(["grid.build/claims"]));
        put_claim(&model, kind, name);
        model.edit(plural, name, |object| {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T11:59:59Z");
            let spec = if kind == "BuildGrid" { &mut object["spec"]["storage"] } else { &mut object["spec"] };
            spec["deletionPolicy"] = json!("Retain");
        });
        pass(&model).await;
        assert!(!goes(&model, plural, name), "{kind}: nobody has seen yet that the claim is to stay");
        model.settle();
        pass(&model).await;
        assert!(goes(&model, plural, name), "{kind}");
        assert_eq!(model.object("statefulsets", &format!("{name}-server")), None);
        assert!(model.object("persistentvolumeclaims", &format!("data-{name}-server-0")).is_some(), "{kind}");
    }
}

#[tokio::test]
async fn a_grid_whose_claim_goes_too_is_held_up_by_nothing() {
    let model = Model::default();
    model.put(grid(&json!({"storage": {"deletionPolicy": "Delete"}})));
    converge(&model).await;
    put_claim(&model, "BuildGrid", "demo");
    model.edit("buildgrids", "demo", |grid| {
        grid["metadata"]["deletionTimestamp"] = json!("2026-01-01T11:59:59Z");
    });
    pass(&model).await;
    assert!(goes(&model, "buildgrids", "demo"));
    assert_eq!(model.object("persistentvolumeclaims", "data-demo-server-0"), None);
}

#[tokio::test]
async fn a_deletion_waits_a_minute_for_the_controller_of_stateful_sets() {
    let model = Model::default();
    model.put(grid(&json!({"storage": {"deletionPolicy": "Delete"}})));
    converge(&model).await;
    model.edit("buildgrids", "demo", |grid| {
        grid["metadata"]["deletionTimestamp"] = json!("2026-01-01T11:59:00Z");
        grid["spec"]["storage"]["deletionPolicy"] = json!("Retain");
    });
    pass(&model).await;
    assert!(goes(&model, "buildgrids", "demo"));
    assert_eq!(model.object("statefulsets", "demo-server"), None);
}

#[tokio::test]
async fn a_grid_that_keeps_its_claim_has_no_finalizer() {
    let model = Model::default();
    model.put(grid(&json!({"storage": {"deletionPolicy": "Delete"}})));
    converge(&model).await;
    put_claim(&model, "BuildGrid", "demo");
    model.edit("buildgrids", "demo", |grid| grid["spec"]["storage"]["deletionPolicy"] = json!("Retain"));
    converge(&model).await;
    let held = finalizers(&model, "buildgrids", "demo");
    assert!(held.as_array().is_none_or(Vec::is_empty), "{held}");
    let claim = model.object("persistentvolumeclaims", "data-demo-server-0").unwrap();
    assert!(claim["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty), "{claim}");
}
