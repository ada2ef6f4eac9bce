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
