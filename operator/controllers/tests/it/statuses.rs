//! Statuses tell what is, and nothing that is over or of something else.

use grid_operator_api::BuildGrid;
use grid_operator_controllers::buildgrid;
use serde_json::{Value, json};

use crate::model::{Model, context};
use crate::passes::{condition, converge, from, new_world, pass};

fn message(model: &Model, type_: &str) -> String {
    condition(model, "buildgrids", "demo", type_)["message"].as_str().unwrap_or_default().to_owned()
}

/// The Jobs that have not ended.
fn unended(model: &Model) -> Value {
    let jobs = model.objects().into_values().filter(|object| object["kind"] == "Job");
    jobs.into_iter().find(|job| job["status"].is_null()).unwrap()
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_failed_migration_shows_the_log_of_its_own_job() {
    let model = new_world();
    converge(&model).await;
    let mut failed = vec![];
    for version in ["2.0.0", "3.0.0"] {
        model.edit("buildgrids", "demo", |grid| grid["spec"]["version"] = json!(version));
        pass(&model).await;
        failed.push(name(&unended(&model)));
        model.edit("jobs", failed.last().unwrap(), |job| {
            job["status"] = json!({"conditions": [{"type": "Failed", "status": "True"}]});
        });
    }
    model.put(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default",
        "labels": {"batch.kubernetes.io/job-name": failed[0]}}}));
    pass(&model).await;
    let said = message(&model, "MigrationSucceeded");
    assert!(said.contains(&failed[1]) && !said.contains("the end of a log"), "{said}");
    model.edit("buildgrids", "demo", |grid| grid["spec"]["version"] = json!("2.0.0"));
    pass(&model).await;
    let said = message(&model, "MigrationSucceeded");
    assert!(said.contains(&failed[0]) && said.contains("the end of a log"), "{said}");
}

#[tokio::test]
async fn what_keeps_a_migration_from_starting_is_said() {
    let model = new_world();
    pass(&model).await;
    pass(&model).await;
    let job = unended(&model);
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    model.put(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default", "labels": labels},
        "status": {"containerStatuses": [{"name": "migrate", "image": "grid-server:1", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}}));
    pass(&model).await;
    for type_ in ["Ready", "MigrationSucceeded", "Degraded"] {
        let said = message(&model, type_);
        assert!(said.contains("grid-server:1 of the container migrate can't be pulled"), "{type_}: {said}");
    }
    model.delete("pods", "p");
    converge(&model).await;
    assert_eq!(condition(&model, "buildgrids", "demo", "Degraded")["status"], "False");
}

#[tokio::test]
async fn actions_that_no_pool_fits_are_forgotten_with_the_execution() {
    let model = new_world();
    converge(&model).await;
    let waiting = json!({"type": "UnsatisfiableActions", "status": "True", "reason": "NoPoolFits", "message": "m",
        "lastTransitionTime": "2026-01-01T12:00:00Z"});
    model.edit("buildgrids", "demo", |grid| {
        grid["status"]["conditions"].as_array_mut().unwrap().push(waiting);
    });
    converge(&model).await;
    let said = || condition(&model, "buildgrids", "demo", "UnsatisfiableActions");
    assert_eq!(said()["status"], "True", "Fleet can't be asked: what was known last stands");
    model.edit("buildgrids", "demo", |grid| {
        grid["spec"]["topology"] = json!("combined");
        grid["spec"]["services"] = json!({});
        grid["spec"]["execution"] = json!({"enabled": false});
    });
    converge(&model).await;
    assert_eq!(said(), Value::Null);
}

#[tokio::test]
async fn a_pass_that_is_overtaken_tells_nothing() {
    let model = new_world();
    converge(&model).await;
    let grid: BuildGrid = from(model.object("buildgrids", "demo").unwrap());
    let drift = |selector: &str| {
        model.edit("services", "demo-cas", |object| object["spec"]["selector"]["theirs"] = json!(selector));
        model.edit("services", "demo-cas", |object| {
            object["spec"]["selector"]["app.kubernetes.io/component"] = json!(selector);
        });
    };
    drift("x");
    model.forget_writes();
    let gate = model.hold(0);
    let (context, overtake) = (context(&model), async {
        gate.reached().await;
        drift("y");
        gate.open();
    });
    let (result, ()) = tokio::join!(buildgrid::reconcile(&grid, &context), overtake);
    assert!(result.unwrap_err().is_conflict());
    assert_eq!(model.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn what_stays_in_another_database_is_said_from_the_first_moment_until_the_next_change() {
    let model = new_world();
    let database = model.object("buildgrids", "demo").unwrap()["spec"]["database"].clone();
    let set = |database: &Value| {
        model.edit("buildgrids", "demo", |grid| {
            grid["spec"] = json!({"storageRef": {"name": "tier"}});
            if !database.is_null() {
                grid["spec"]["database"] = database.clone();
            }
        });
    };
    set(&Value::Null);
    converge(&model).await;
    let used = || model.object("buildgrids", "demo").unwrap()["status"]["database"].clone();
    let said = || condition(&model, "buildgrids", "demo", "StateLeftBehind");
    assert_eq!((used(), said()), (json!("sqlite"), Value::Null));
    set(&database);
    pass(&model).await;
    assert_eq!(
        (used(), &said()["status"]),
        (json!("sqlite"), &json!("True")),
        "before the servers are replaced"
    );
    let events =
        || model.objects().into_values().filter(|object| object["reason"] == "DatabaseChanged").count();
    converge(&model).await;
    assert_eq!((used(), events()), (json!("postgresql"), 1));
    let message = said()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("was sqlite") && message.contains("take spec.database away"), "{message}");
    model.edit("buildgrids", "demo", |grid| grid["spec"]["chunking"] = json!(false));
    converge(&model).await;
    assert_eq!(said(), Value::Null);
    set(&Value::Null);
    converge(&model).await;
    let message = said()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("was postgresql") && message.contains("give spec.database"), "{message}");
}

#[tokio::test]
async fn a_database_that_is_taken_back_in_time_leaves_nothing_behind() {
    let model = new_world();
    let spec = model.object("buildgrids", "demo").unwrap()["spec"].clone();
    let topology = json!({"storageRef": {"name": "tier"}});
    converge(&model).await;
    model.edit("buildgrids", "demo", |grid| grid["spec"] = topology);
    pass(&model).await;
    let said = || condition(&model, "buildgrids", "demo", "StateLeftBehind");
    assert_eq!(said()["reason"], "DatabaseChanged");
    model.edit("buildgrids", "demo", |grid| grid["spec"] = spec);
    converge(&model).await;
    assert_eq!(said(), Value::Null);
}

#[tokio::test]
async fn what_a_cleanup_freed_stands_until_the_next_has_ended() {
    let model = new_world();
    model.edit("casstorages", "tier", |tier| {
        tier["spec"] = json!({"serve": "index", "storages": [
            {"name": "index", "sqlIndex": {"storage": "far", "database": {"name": "db", "key": "uri"}}},
            {"name": "far", "remote": {"url": "https://cas.example"}}],
            "cleanup": {"highWatermark": "2Gi", "lowWatermark": "1Gi"}});
    });
    converge(&model).await;
    let cron = model.object("cronjobs", "tier-cleanup").unwrap();
    let labels = &cron["spec"]["jobTemplate"]["metadata"]["labels"];
    let begin = |job: &str| {
        model.put(json!({"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": job, "namespace": "default", "labels": labels}, "spec": {"template": {"spec": {}}}}));
    };
    begin("first");
    model.edit("jobs", "first", |job| {
        job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    });
    model.put(json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": []}, "metadata":
        {"name": "first-x", "namespace": "default", "labels": {"batch.kubernetes.io/job-name": "first"}}}));
    pass(&model).await;
    let told = || {
        let said = condition(&model, "casstorages", "tier", "CleanupSucceeded")["message"].clone();
        (model.object("casstorages", "tier").unwrap()["status"]["cleanup"].clone(), said)
    };
    let before = told();
    assert_eq!(before.0["bytesFreed"], 5);
    model.delete("pods", "first-x");
    pass(&model).await;
    assert_eq!(told(), before, "its log is gone with its pod");
    begin("second");
    pass(&model).await;
    assert_eq!(told(), before, "the next one runs");
    model.delete("jobs", "first");
    pass(&model).await;
    assert_eq!(told(), before, "its Job is gone");
    model.edit("casstorages", "tier", |tier| {
        tier["spec"].as_object_mut().unwrap().remove("cleanup");
    });
    pass(&model).await;
    assert_eq!(told(), (Value::Null, Value::Null), "nothing is expired any more");
}
