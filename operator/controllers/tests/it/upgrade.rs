//! Upgrades: of the operator, which restarts nothing until it is a resource's turn; of a grid, part after part and pool
//! after pool; and back.

use std::collections::BTreeMap;

use grid_operator_apply::Leadership;
use grid_operator_controllers::{Context, Images, Pace, Rollouts};
use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use crate::model::{Clock, Model, context_at, noon};
use crate::passes::{assert_same, condition, converge, new_world, pass_of, shape};

/// Revision of the templates of an operator to come.
pub(crate) const NEXT: &str = "next";

/// Revision of the templates of this one.
pub(crate) fn own_revision() -> String {
    Images::new("", "").revision
}

/// An operator whose templates are of some revision, with its memory.
pub(crate) struct Operator {
    context: Context,
    clock: Clock,
}

impl Operator {
    pub(crate) fn over(model: &Model, revision: &str) -> Self {
        let clock = Clock::default();
        let mut context = context_at(model, noon(), Leadership::sole());
        context.mint = std::sync::Arc::new(clock.clone());
        context.images.revision = revision.to_owned();
        let rollouts = Rollouts::new(Pace::default());
        Self { context: Context { rollouts, ..context }, clock }
    }

    pub(crate) async fn pass(&self, model: &Model) {
        pass_of(model, &self.context).await;
    }

    fn later(&self, seconds: i64) {
        self.clock.set(self.clock.get() + SignedDuration::from_secs(seconds));
    }

    /// Passes until nothing is written and nothing waits for its turn, however long that takes.
    pub(crate) async fn finish(&self, model: &Model) {
        for _ in 0..60 {
            model.settle();
            model.forget_writes();
            self.later(61);
            self.pass(model).await;
            if model.writes().is_empty() && !waits(model) {
                return;
            }
        }
        panic!("does not come to rest: {:?}", model.writes());
    }
}

/// A resource has still to be moved to other templates.
fn waits(model: &Model) -> bool {
    let is_pending =
        |condition: &Value| condition["type"] == "RolloutPending" && condition["status"] == "True";
    let conditions = model.objects().into_values().map(|object| object["status"]["conditions"].clone());
    conditions.into_iter().any(|conditions| conditions.as_array().into_iter().flatten().any(is_pending))
}

/// What a function says of each workload's pod template.
fn of_templates<T>(model: &Model, say: fn(&Value) -> T) -> BTreeMap<String, T> {
    let objects = model.objects().into_values();
    let workloads =
        objects.filter(|object| object["kind"] == "Deployment" || object["kind"] == "StatefulSet");
    workloads
        .map(|object| {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            (name, say(&object["spec"]["template"]))
        })
        .collect()
}

fn moved(model: &Model, revision: &str) -> Vec<String> {
    let revisions = of_templates(model, |template| {
        template["metadata"]["annotations"]["grid.build/template-revision"].as_str().unwrap().to_owned()
    });
    revisions.into_iter().filter(|(_, of)| of == revision).map(|(name, _)| name).collect()
}

fn upgraded(model: &Model) -> Vec<String> {
    let images = of_templates(model, |template| {
        let containers = template["spec"]["containers"].as_array().unwrap();
        containers.iter().any(|container| container["image"].as_str().unwrap().ends_with(":2.0.0"))
    });
    images.into_iter().filter(|(_, is_new)| *is_new).map(|(name, _)| name).collect()
}

#[tokio::test]
async fn a_newer_operator_replaces_no_pod_before_its_turn_and_then_one_resource_after_the_other() {
    let model = new_world();
    converge(&model).await;
    let (before, templates) = (shape(&model), of_templates(&model, Value::clone));
    let newer = Operator::over(&model, NEXT);
    for _ in 0..3 {
        newer.pass(&model).await;
        model.settle();
    }
    assert_eq!(of_templates(&model, Value::clone), templates, "nobody asked for new pods");
    for (plural, name) in [("buildgrids", "demo"), ("casstorages", "tier"), ("workerpools", "gcc")] {
        assert_eq!(condition(&model, plural, name, "RolloutPending")["status"], "True", "{name}");
        assert_eq!(condition(&model, plural, name, "Ready")["status"], "True", "{name}");
    }
    model.forget_writes();
    newer.pass(&model).await;
    assert_eq!(model.writes(), Vec::<String>::new(), "a wait is said once");

    model.edit("workerpools", "gcc", |pool| pool["spec"]["replicas"] = json!(5));
    newer.pass(&model).await;
    assert_eq!(model.object("deployments", "gcc-worker").unwrap()["spec"]["replicas"], 5, "all else goes on");
    model.edit("workerpools", "gcc", |pool| pool["spec"]["replicas"] = json!(3));
    newer.pass(&model).await;
    assert_eq!(of_templates(&model, Value::clone), templates);

    model.settle();
    newer.later(61);
    newer.pass(&model).await;
    assert_eq!(moved(&model, NEXT), ["tier-server"], "one resource");
    newer.later(61);
    newer.pass(&model).await;
    assert_eq!(moved(&model, NEXT), ["tier-server"], "and no other before it came to rest");
    model.settle();
    newer.pass(&model).await;
    newer.later(61);
    newer.pass(&model).await;
    assert_eq!(
        moved(&model, NEXT),
        ["demo-execution", "tier-server"],
        "of a grid one server after the other"
    );
    newer.finish(&model).await;
    assert_eq!(moved(&model, NEXT).len(), templates.len());
    assert_eq!(condition(&model, "buildgrids", "demo", "RolloutPending"), Value::Null);

    let older = Operator::over(&model, &own_revision());
    older.pass(&model).await;
    assert_eq!(moved(&model, NEXT).len(), templates.len(), "back is no sooner than forth");
    older.finish(&model).await;
    assert_same(&shape(&model), &before, "there and back");
}

#[tokio::test]
async fn what_the_user_asks_for_is_done_at_once() {
    let model = new_world();
    converge(&model).await;
    let newer = Operator::over(&model, NEXT);
    newer.pass(&model).await;
    model.settle();
    model.edit("workerpools", "gcc", |pool| pool["spec"]["concurrency"] = json!(8));
    newer.pass(&model).await;
    assert_eq!(moved(&model, NEXT), ["gcc-worker"]);
}

#[tokio::test]
async fn another_version_reaches_part_after_part_and_pool_after_pool() {
    let model = new_world();
    let mut second = model.object("workerpools", "gcc").unwrap();
    second["metadata"] = json!({"name": "clang", "namespace": "default"});
    model.put(second);
    model.edit("buildgrids", "demo", |grid| grid["spec"]["version"] = json!("1.0.0"));
    converge(&model).await;
    let operator = Operator::over(&model, &own_revision());
    model.edit("buildgrids", "demo", |grid| grid["spec"]["version"] = json!("2.0.0"));
    let mut order: Vec<String> = vec![];
    for _ in 0..20 {
        operator.pass(&model).await;
        let now = upgraded(&model);
        let new: Vec<String> = now.into_iter().filter(|name| !order.contains(name)).collect();
        assert!(new.len() <= 1, "{new:?} at once, after {order:?}");
        order.extend(new);
        model.settle();
    }
    assert_eq!(
        order,
        ["demo-execution", "demo-bots", "demo-cas", "demo-action-cache", "clang-worker", "gcc-worker"]
    );
    assert_eq!(model.object("workerpools", "gcc").unwrap()["status"]["version"], "2.0.0");
}
