//! Reconcilers against a model API server: whatever happens in between, they arrive at the same objects, and
//! then write nothing any more.

use grid_operator_api::{BuildGrid, CasStorage};
use grid_operator_apply::Leadership;
use grid_operator_controllers::{buildgrid, casstorage};
use serde_json::{Value, json};

use crate::model::{Model, context, context_at, noon};
use crate::passes::{assert_same, condition, converge, from, new_world, pass, shape};

#[tokio::test]
async fn a_world_at_rest_is_written_to_no_more() {
    let model = new_world();
    converge(&model).await;
    for _ in 0..3 {
        pass(&model).await;
    }
    assert_eq!(model.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_new_operator_over_a_world_at_rest_writes_nothing() {
    let model = new_world();
    converge(&model).await;
    // A context of its own has no memory of what was applied.
    pass(&model).await;
    assert_eq!(model.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_crash_after_any_write_is_made_good() {
    let model = new_world();
    converge(&model).await;
    let wanted = shape(&model);
    for crash_after in 0..60 {
        let model = new_world();
        model.crash_after(Some(crash_after));
        pass(&model).await;
        pass(&model).await;
        model.crash_after(None);
        converge(&model).await;
        assert_same(&shape(&model), &wanted, &format!("after a crash at write {crash_after}"));
    }
}

#[tokio::test]
async fn drift_is_repaired_and_what_others_add_is_left() {
    let model = new_world();
    converge(&model).await;
    let wanted = shape(&model);
    model.edit("deployments", "demo-execution", |object| object["spec"]["replicas"] = json!(7));
    model.edit("services", "demo-cas", |object| {
        object["spec"]["selector"]["app.kubernetes.io/component"] = json!("x");
    });
    model.delete("ingresses", "demo");
    converge(&model).await;
    assert_same(&shape(&model), &wanted, "after the repair");
    model.edit("deployments", "demo-execution", |object| object["metadata"]["labels"]["theirs"] = json!("1"));
    converge(&model).await;
    assert_eq!(model.object("deployments", "demo-execution").unwrap()["metadata"]["labels"]["theirs"], "1");
}

#[tokio::test]
async fn a_field_there_and_back_leaves_everything_as_it_was() {
    type Edit = fn(&mut Value);
    let changes: &[(&str, &str, Edit)] = &[
        ("buildgrids", "demo", |o| o["spec"]["ingress"] = Value::Null),
        ("buildgrids", "demo", |o| o["spec"]["instances"] = json!(["", "main"])),
        ("buildgrids", "demo", |o| o["spec"]["services"]["bots"] = json!({"replicas": 3})),
        ("buildgrids", "demo", |o| o["spec"]["actionCache"]["lru"] = json!({"maxEntries": 10})),
        ("buildgrids", "demo", |o| o["spec"]["version"] = json!("2.0.0")),
        ("buildgrids", "demo", |o| o["spec"]["topology"] = json!("combined")),
        ("buildgrids", "demo", |o| o["spec"]["podTemplate"] = json!({"spec": {"nodeSelector": {"a": "b"}}})),
        ("buildgrids", "demo", |o| o["spec"]["tls"] = json!({"disabled": {}})),
        ("casstorages", "tier", |o| o["spec"]["deletionPolicy"] = json!("Delete")),
        ("workerpools", "gcc", |o| o["spec"]["properties"] = json!([{"name": "os", "value": "$x"}])),
        ("workerpools", "gcc", |o| o["spec"]["concurrency"] = json!(8)),
        ("workerpools", "gcc", |o| o["spec"]["cache"]["storageClassName"] = json!("fast")),
    ];
    for (plural, name, change) in changes {
        let model = new_world();
        // Without an explicit version, a workload keeps the one that it has.
        model.edit("buildgrids", "demo", |o| o["spec"]["version"] = json!("1.0.0"));
        converge(&model).await;
        let before = shape(&model);
        let spec = model.object(plural, name).unwrap()["spec"].clone();
        model.edit(plural, name, |object| {
            change(object);
            strip_nulls(object);
        });
        let changed = model.object(plural, name).unwrap();
        converge(&model).await;
        assert!(shape(&model) != before, "{plural} {changed} changed nothing");
        model.edit(plural, name, |object| object["spec"] = spec.clone());
        converge(&model).await;
        assert_same(&shape(&model), &before, &format!("{plural}: {changed}"));
    }
}

fn strip_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, v| !v.is_null());
        map.values_mut().for_each(strip_nulls);
    }
}

#[tokio::test]
async fn nothing_is_written_without_leadership() {
    let model = new_world();
    let context = context_at(&model, noon(), Leadership::none());
    let grid = from(model.object("buildgrids", "demo").unwrap());
    assert!(buildgrid::reconcile(&grid, &context).await.is_err());
    assert_eq!(model.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_late_status_of_a_stale_view_is_refused() {
    let model = new_world();
    converge(&model).await;
    let stale: BuildGrid = from(model.object("buildgrids", "demo").unwrap());
    model.edit("buildgrids", "demo", |object| object["spec"]["paused"] = json!(true));
    converge(&model).await;
    let mut stale = stale;
    stale.spec.database = None;
    stale.spec.topology = grid_operator_api::Topology::Combined;
    let error = buildgrid::reconcile(&stale, &context(&model)).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
}

#[tokio::test]
async fn a_missing_secret_stops_everything_and_deletes_nothing() {
    let model = new_world();
    converge(&model).await;
    let before = shape(&model);
    model.edit("secrets", "db", |object| object["data"] = json!({"password": "eA=="}));
    model.forget_writes();
    pass(&model).await;
    assert!(
        model.writes().iter().all(|write| write.starts_with("STATUS ") || write.starts_with("POST events/")),
        "{:?}",
        model.writes()
    );
    let status = model.object("buildgrids", "demo").unwrap()["status"].clone();
    let ready =
        status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap().clone();
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("KeyNotFound")));
    assert_same(&shape(&model), &before, "without the Secret's key");
}

#[tokio::test]
async fn a_volume_that_exists_is_not_asked_to_change() {
    let model = new_world();
    converge(&model).await;
    let before = shape(&model);
    // As after the tier was deleted and made anew with another size, while its StatefulSet was kept.
    model.edit("casstorages", "tier", |object| object["spec"]["volume"]["size"] = json!("9Gi"));
    converge(&model).await;
    let status = model.object("casstorages", "tier").unwrap()["status"].clone();
    let ready =
        status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap().clone();
    assert_eq!(ready["reason"], "VolumeFixed", "{ready}");
    model.edit("casstorages", "tier", |object| object["spec"]["volume"]["size"] = json!("10Gi"));
    converge(&model).await;
    assert_same(&shape(&model), &before, "after the size was taken back");
}

#[tokio::test]
async fn a_failed_migration_keeps_the_old_pods_and_shows_its_log() {
    let model = new_world();
    converge(&model).await;
    let image = |model: &Model| {
        model.object("deployments", "demo-execution").unwrap()["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    };
    let before = image(&model);
    model.edit("buildgrids", "demo", |object| object["spec"]["version"] = json!("2.0.0"));
    pass(&model).await;
    let jobs: Vec<String> = model.objects().into_keys().filter(|k| k.1 == "jobs").map(|k| k.3).collect();
    assert_eq!(jobs.len(), 2, "another version is another Job");
    let new = jobs.iter().find(|job| model.object("jobs", job).unwrap()["status"].is_null()).unwrap();
    model.edit("jobs", new, |job| {
        job["status"] = json!({"conditions": [{"type": "Failed", "status": "True"}]});
    });
    model.put(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default",
        "labels": {"batch.kubernetes.io/job-name": new}}}));
    pass(&model).await;
    pass(&model).await;
    assert_eq!(image(&model), before);
    let status = model.object("buildgrids", "demo").unwrap()["status"].clone();
    let said = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == "MigrationSucceeded")
        .unwrap()
        .clone();
    assert_eq!(said["status"], "False");
    assert!(said["message"].as_str().unwrap().contains("the end of a log"), "{said}");
}

#[tokio::test]
async fn a_storage_in_use_waits_with_its_deletion_for_an_hour() {
    let model = new_world();
    converge(&model).await;
    let finalizers =
        |model: &Model| model.object("casstorages", "tier").unwrap()["metadata"]["finalizers"].clone();
    assert_eq!(finalizers(&model), json!(["grid.build/in-use"]));
    model.edit("casstorages", "tier", |object| {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T11:30:00Z");
    });
    pass(&model).await;
    assert_eq!(finalizers(&model), json!(["grid.build/in-use"]));
    let later = "2026-01-01T12:31:00Z".parse().unwrap();
    let tier: CasStorage = from(model.object("casstorages", "tier").unwrap());
    casstorage::reconcile(&tier, &context_at(&model, later, Leadership::sole())).await.unwrap();
    assert_eq!(finalizers(&model), json!([]));
}

#[tokio::test]
async fn deletion_leaves_nothing_of_the_operators() {
    let model = new_world();
    converge(&model).await;
    for (plural, name) in [("workerpools", "gcc"), ("buildgrids", "demo"), ("casstorages", "tier")] {
        model.delete(plural, name);
    }
    let left: Vec<String> =
        model.objects().into_iter().filter(|(_, o)| o["kind"] != "Event").map(|(k, _)| k.3).collect();
    assert_eq!(left, ["db"]);
}

#[tokio::test]
async fn a_certificate_is_renewed_in_time_and_its_ca_kept() {
    let model = new_world();
    converge(&model).await;
    let data = |model: &Model, name: &str| model.object("secrets", name).unwrap()["data"].clone();
    let (before, ca) = (data(&model, "demo-tls"), data(&model, "demo-ca"));
    // 90 days, of which a third is left on the sixtieth.
    for (day, renewed) in [("2026-02-28T12:00:00Z", false), ("2026-03-03T12:00:00Z", true)] {
        let grid: BuildGrid = from(model.object("buildgrids", "demo").unwrap());
        let context = context_at(&model, day.parse().unwrap(), Leadership::sole());
        buildgrid::reconcile(&grid, &context).await.unwrap();
        assert_eq!(data(&model, "demo-tls") != before, renewed, "{day}");
    }
    assert_eq!(data(&model, "demo-ca"), ca);
}

#[tokio::test]
async fn an_object_of_someone_else_is_not_taken_over() {
    let model = new_world();
    model.put(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "demo-cas", "namespace": "default"}, "spec": {}}));
    pass(&model).await;
    pass(&model).await;
    assert!(model.object("services", "demo-cas").unwrap()["metadata"]["labels"].is_null());
    let status = model.object("buildgrids", "demo").unwrap()["status"].clone();
    let ready =
        status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap().clone();
    assert_eq!(ready["reason"], "NameTaken", "{ready}");
}

#[tokio::test]
async fn a_volume_grows_around_its_pods() {
    let model = new_world();
    converge(&model).await;
    for ordinal in 0..2 {
        model.put(
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": format!("data-tier-server-{ordinal}"),
            "namespace": "default", "labels": {"app.kubernetes.io/instance": "tier", "grid.build/kind": "CasStorage",
            "app.kubernetes.io/component": "server"}}, "spec": {"resources": {"requests": {"storage": "10Gi"}}}}),
        );
    }
    let before = model.object("statefulsets", "tier-server").unwrap()["metadata"]["uid"].clone();
    model.edit("casstorages", "tier", |object| object["spec"]["volume"]["size"] = json!("20Gi"));
    converge(&model).await;
    for ordinal in 0..2 {
        let claim = model.object("persistentvolumeclaims", &format!("data-tier-server-{ordinal}")).unwrap();
        assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "20Gi");
    }
    let set = model.object("statefulsets", "tier-server").unwrap();
    assert_eq!(
        set.pointer("/spec/volumeClaimTemplates/0/spec/resources/requests/storage"),
        Some(&json!("20Gi"))
    );
    assert_ne!(set["metadata"]["uid"], before, "a claim template can't be changed in place");
    let ready = condition(&model, "casstorages", "tier", "Ready");
    assert_eq!(ready["status"], "True", "{ready}");
}

#[tokio::test]
async fn a_grid_that_hibernates_lets_its_workers_leave_first_and_wakes_by_annotation() {
    let model = new_world();
    converge(&model).await;
    let replicas =
        |model: &Model, name: &str| model.object("deployments", name).unwrap()["spec"]["replicas"].clone();
    model.edit("buildgrids", "demo", |object| object["spec"]["hibernate"] = json!(true));
    pass(&model).await;
    assert_eq!(replicas(&model, "gcc-worker"), 0);
    assert_eq!(replicas(&model, "demo-execution"), 2, "workers are still leaving");
    converge(&model).await;
    assert_eq!(replicas(&model, "demo-execution"), 0);
    assert_eq!(condition(&model, "buildgrids", "demo", "Hibernated")["status"], "True");
    assert_eq!(condition(&model, "workerpools", "gcc", "Ready")["reason"], "Hibernated");
    model.edit("buildgrids", "demo", |object| {
        object["metadata"]["annotations"] = json!({"grid.build/wake-until": "2026-01-01T13:00:00Z"});
    });
    converge(&model).await;
    assert_eq!(replicas(&model, "demo-execution"), 2);
    assert_eq!(replicas(&model, "gcc-worker"), 3);
    assert_eq!(condition(&model, "buildgrids", "demo", "Ready")["status"], "True");
}

#[tokio::test]
async fn a_kind_that_the_cluster_lacks_is_said_and_stops_only_what_needs_it() {
    let model = new_world();
    model.lacks("monitoring.coreos.com");
    model.lacks("gateway.networking.k8s.io");
    model.edit("buildgrids", "demo", |object| object["spec"]["monitoring"] = json!({}));
    converge(&model).await;
    assert_eq!(condition(&model, "buildgrids", "demo", "MonitoringReady")["reason"], "KindNotFound");
    assert_eq!(condition(&model, "buildgrids", "demo", "Ready")["status"], "True");
    model.edit("buildgrids", "demo", |object| {
        object["spec"].as_object_mut().unwrap().remove("ingress");
        object["spec"]["gateway"] = json!({"host": "grid.example.org", "parentRefs": [{"name": "public"}]});
    });
    converge(&model).await;
    let ready = condition(&model, "buildgrids", "demo", "Ready");
    assert_eq!(ready["reason"], "KindNotFound", "{ready}");
}

/// A tier whose blobs are expired by a CronJob.
fn indexed_tier() -> Value {
    json!({"serve": "index", "storages": [
        {"name": "index", "sqlIndex": {"storage": "far", "database": {"name": "db", "key": "uri"}}},
        {"name": "far", "remote": {"url": "https://cas.example"}}],
        "cleanup": {"highWatermark": "2Gi", "lowWatermark": "1Gi"}})
}

#[tokio::test]
async fn a_tier_tells_how_its_last_cleanup_ended() {
    let model = new_world();
    model.edit("casstorages", "tier", |tier| tier["spec"] = indexed_tier());
    converge(&model).await;
    assert_eq!(condition(&model, "casstorages", "tier", "CleanupSucceeded"), Value::Null, "none has run");
    let labels =
        model.object("cronjobs", "tier-cleanup").unwrap()["spec"]["jobTemplate"]["metadata"]["labels"]
            .clone();
    for (job, ended) in [("first", "Complete"), ("second", "Failed")] {
        model.put(json!({"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": job, "namespace": "default", "labels": labels}, "spec": {"template": {"spec": {}}}}));
        model.put(json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": []}, "metadata":
            {"name": format!("{job}-x"), "namespace": "default", "labels": {"batch.kubernetes.io/job-name": job}}}));
        model.edit("jobs", job, |job| {
            job["status"] = json!({"conditions": [{"type": ended, "status": "True"}]});
        });
        pass(&model).await;
        let said = condition(&model, "casstorages", "tier", "CleanupSucceeded");
        let wanted = if ended == "Complete" { ("True", "Cleaned") } else { ("False", "CleanupFailed") };
        assert_eq!((said["status"].as_str().unwrap(), said["reason"].as_str().unwrap()), wanted);
        let message = said["message"].as_str().unwrap();
        assert!(message.contains(job) && message.contains("the end of a log"), "{message}");
        let status = model.object("casstorages", "tier").unwrap()["status"]["cleanup"].clone();
        assert_eq!((&status["job"], &status["succeeded"]), (&json!(job), &json!(ended == "Complete")));
        assert_eq!((&status["bytesFreed"], &status["blobsFreed"]), (&json!(5), &json!(1)));
    }
}

#[tokio::test]
async fn nothing_is_expired_while_a_tier_is_paused() {
    let model = new_world();
    model.edit("casstorages", "tier", |tier| tier["spec"] = indexed_tier());
    converge(&model).await;
    let suspended = || model.object("cronjobs", "tier-cleanup").unwrap()["spec"]["suspend"].clone();
    assert_eq!(suspended(), false);
    model.edit("casstorages", "tier", |tier| tier["spec"]["paused"] = json!(true));
    converge(&model).await;
    assert_eq!(suspended(), true);
    model.edit("casstorages", "tier", |tier| tier["spec"]["paused"] = json!(false));
    converge(&model).await;
    assert_eq!(suspended(), false, "and goes on afterwards");
}
