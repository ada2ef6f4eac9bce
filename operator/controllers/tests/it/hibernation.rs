//! A grid that is to hibernate waits for its workers, and not for ever.

use grid_operator_apply::Leadership;
use grid_operator_controllers::{Outcome, buildgrid};
use serde_json::{Value, json};

use crate::model::{Model, context_at};
use crate::passes::{condition, converge, from, new_world, pass};

/// A grid that is asked to sleep while a worker of a pool has still something to do: its pod is ending.
async fn world() -> Model {
    let model = new_world();
    converge(&model).await;
    model.put(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gcc-worker-0", "namespace": "default",
        "deletionTimestamp": "2026-01-01T12:10:00Z",
        "labels": {"app.kubernetes.io/instance": "gcc", "grid.build/kind": "WorkerPool",
        "app.kubernetes.io/component": "worker", "app.kubernetes.io/managed-by": "grid-operator"}}}),
    );
    model.edit("buildgrids", "demo", |grid| grid["spec"]["hibernate"] = json!(true));
    for _ in 0..2 {
        pass(&model).await;
        model.settle();
    }
    assert_eq!(workers(&model), 0);
    model
}

fn workers(model: &Model) -> Value {
    model.object("deployments", "gcc-worker").unwrap()["spec"]["replicas"].clone()
}

/// A pass over the grid at a time of the day of all tests.
async fn at(model: &Model, time: &str) -> Outcome {
    let now = format!("2026-01-01T{time}Z").parse().unwrap();
    for _ in 0..3 {
        let context = context_at(model, now, Leadership::sole());
        let grid = from(model.object("buildgrids", "demo").unwrap());
        buildgrid::reconcile(&grid, &context).await.unwrap();
        model.settle();
    }
    let context = context_at(model, now, Leadership::sole());
    buildgrid::reconcile(&from(model.object("buildgrids", "demo").unwrap()), &context).await.unwrap()
}

fn servers(model: &Model) -> Value {
    model.object("deployments", "demo-execution").unwrap()["spec"]["replicas"].clone()
}

fn hibernated(model: &Model) -> (String, String) {
    let said = condition(model, "buildgrids", "demo", "Hibernated");
    assert!(said["message"].as_str().is_some_and(|m| m.contains("gcc")), "it names the pool: {said}");
    (said["status"].as_str().unwrap().to_owned(), said["reason"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn servers_wait_for_workers_as_long_as_these_may_take_and_then_leave_without_them() {
    let model = world().await;
    // Ten minutes are a pool's grace, and five more are for whatever else there is.
    let outcome = at(&model, "12:14:00").await;
    assert_eq!(
        (servers(&model), hibernated(&model)),
        (json!(2), ("Unknown".into(), "WorkersLeaving".into()))
    );
    assert_eq!(
        outcome,
        Outcome::After(std::time::Duration::from_secs(60)),
        "nothing else tells when it is time"
    );
    at(&model, "12:15:00").await;
    assert_eq!((servers(&model), hibernated(&model)), (json!(0), ("True".into(), "WorkersStayed".into())));
    at(&model, "12:16:00").await;
    assert_eq!((servers(&model), hibernated(&model)), (json!(0), ("True".into(), "WorkersStayed".into())));
}

#[tokio::test]
async fn who_was_awake_for_a_while_waits_for_the_workers_anew() {
    let model = world().await;
    at(&model, "12:15:00").await;
    model.edit("buildgrids", "demo", |grid| {
        grid["metadata"]["annotations"] = json!({"grid.build/wake-until": "2026-01-01T13:00:00Z"});
    });
    at(&model, "12:20:00").await;
    assert_eq!(servers(&model), 2);
    assert_eq!(condition(&model, "buildgrids", "demo", "Hibernated")["reason"], "Awake");
    // The look at the end of that time is a minute late.
    at(&model, "13:01:00").await;
    at(&model, "13:15:00").await;
    assert_eq!(
        (servers(&model), hibernated(&model)),
        (json!(2), ("Unknown".into(), "WorkersLeaving".into()))
    );
    at(&model, "13:16:00").await;
    assert_eq!((servers(&model), hibernated(&model)), (json!(0), ("True".into(), "WorkersStayed".into())));
}

#[tokio::test]
async fn who_is_no_longer_kept_awake_waits_for_the_workers_too() {
    let model = world().await;
    model.edit("buildgrids", "demo", |grid| {
        grid["metadata"]["annotations"] = json!({"grid.build/wake-until": "2026-01-01T20:00:00Z"});
    });
    at(&model, "12:01:00").await;
    model.edit("buildgrids", "demo", |grid| grid["metadata"]["annotations"] = json!({}));
    at(&model, "15:00:00").await;
    assert_eq!(
        (servers(&model), hibernated(&model)),
        (json!(2), ("Unknown".into(), "WorkersLeaving".into()))
    );
    at(&model, "15:15:00").await;
    assert_eq!((servers(&model), hibernated(&model)), (json!(0), ("True".into(), "WorkersStayed".into())));
}

#[tokio::test]
async fn what_is_wrong_with_a_grid_that_sleeps_does_not_make_it_say_that_it_is_awake() {
    let model = new_world();
    model.edit("buildgrids", "demo", |grid| grid["spec"]["hibernate"] = json!(true));
    converge(&model).await;
    let said = || condition(&model, "buildgrids", "demo", "Hibernated")["status"].clone();
    assert_eq!(said(), "True");
    model.delete("secrets", "db");
    converge(&model).await;
    assert_eq!((said(), servers(&model)), (json!("True"), json!(0)));
}

#[tokio::test]
async fn a_pause_wakes_nobody() {
    let model = world().await;
    at(&model, "12:15:00").await;
    for paused in [true, false] {
        model.edit("buildgrids", "demo", |grid| grid["spec"]["paused"] = json!(paused));
        at(&model, "12:16:00").await;
        assert_eq!(
            (servers(&model), hibernated(&model).0),
            (json!(0), "True".to_owned()),
            "paused: {paused}"
        );
    }
}

#[tokio::test]
async fn servers_leave_once_the_last_worker_has_ended() {
    let model = world().await;
    pass(&model).await;
    assert_eq!(model.object("workerpools", "gcc").unwrap()["status"]["replicas"], 1, "it still ends");
    assert_eq!(servers(&model), 2);
    model.delete("pods", "gcc-worker-0");
    converge(&model).await;
    assert_eq!(model.object("workerpools", "gcc").unwrap()["status"]["replicas"], 0);
    assert_eq!(servers(&model), 0);
    assert_eq!(condition(&model, "buildgrids", "demo", "Hibernated")["reason"], "Asked");
}

#[tokio::test]
async fn a_pool_that_is_wrong_sleeps_with_its_grid() {
    let model = new_world();
    converge(&model).await;
    let instance = |name: &str| {
        model.edit("workerpools", "gcc", |pool| pool["spec"]["instanceName"] = json!(name));
    };
    instance("unknown");
    converge(&model).await;
    assert_eq!(workers(&model), 3, "what is wrong with it ends nobody");
    model.edit("buildgrids", "demo", |grid| grid["spec"]["hibernate"] = json!(true));
    converge(&model).await;
    assert_eq!((workers(&model), servers(&model)), (json!(0), json!(0)));
    assert_eq!(condition(&model, "workerpools", "gcc", "Ready")["reason"], "UnknownInstance");
    assert_eq!(condition(&model, "buildgrids", "demo", "Hibernated")["reason"], "Asked");
    model.edit("buildgrids", "demo", |grid| grid["spec"]["hibernate"] = json!(false));
    instance("");
    converge(&model).await;
    assert_eq!(workers(&model), 3);
}
