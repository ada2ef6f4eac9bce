//! An autoscaled pool over the model API server and a Fleet that this test plays: from zero to many and back, with
//! nobody ended who runs something.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use grid_operator_api::{BuildGrid, WorkerPool};
use grid_operator_apply::Leadership;
use grid_operator_controllers::fleet::{Demand, Drain, Fleets, News, NodeState, PoolDemand};
use grid_operator_controllers::{Context, Images, buildgrid, workerpool};
use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use crate::model::{Clock, Model};
use crate::played_fleet::{Grid, node_of};

pub(crate) struct World {
    model: Model,
    pub(crate) grid: Grid,
    pub(crate) context: Context,
    clock: Clock,
    news: broadcast::Receiver<News>,
    /// Pods that were ever made.
    made: AtomicUsize,
}

impl World {
    pub(crate) fn new() -> Self {
        let model = Model::default();
        model.put(through::<BuildGrid>(&json!({"apiVersion": "grid.build/v1alpha1", "kind": "BuildGrid",
            "metadata": {"name": "demo", "namespace": "default"}, "spec": {}})));
        model.put(through::<WorkerPool>(&json!({"apiVersion": "grid.build/v1alpha1", "kind": "WorkerPool",
            "metadata": {"name": "gcc", "namespace": "default"}, "spec": {"gridRef": {"name": "demo"}, "image": "gcc",
            "concurrency": 2, "autoscaling": {"maxReplicas": 10, "scaleDownDelay": "60s"}}})));
        Self::over(model)
    }

    /// An operator that has just begun.
    fn over(model: Model) -> Self {
        let (demand, _) = watch::channel(None);
        let grid = Grid {
            demand,
            bots: Arc::default(),
            declared: Arc::default(),
            drained: Arc::default(),
            is_down: Arc::default(),
        };
        let leadership = Leadership::sole();
        let fleets = Arc::new(Fleets::new(Arc::new(grid.clone()), leadership.clone()));
        let news = fleets.news();
        let clock = Clock::default();
        let images = Images::new("registry.example/grid", "1.0.0");
        let mint = Arc::new(clock.clone());
        let context = Context::new(model.client(), leadership, images, mint, None, fleets);
        Self { model, grid, context, clock, news, made: AtomicUsize::new(0) }
    }

    pub(crate) async fn pass(&self) {
        for (plural, name) in [("buildgrids", "demo"), ("workerpools", "gcc")] {
            let object = self.model.object(plural, name).unwrap();
            if plural == "buildgrids" {
                let grid = serde_json::from_value(object).unwrap();
                buildgrid::reconcile(&grid, &self.context).await.unwrap();
            } else {
                let pool = serde_json::from_value(object).unwrap();
                workerpool::reconcile(&pool, &self.context).await.unwrap();
            }
        }
    }

    /// Waits until the operator has heard of the pool's demand.
    pub(crate) async fn heard(&mut self) {
        loop {
            if let News::Pool(_) = self.news.recv().await.unwrap() {
                return;
            }
        }
    }

    fn replicas(&self) -> i64 {
        self.model.object("deployments", "gcc-worker").unwrap()["spec"]["replicas"].as_i64().unwrap()
    }

    /// Does what the ReplicaSet would: pods come and go, those with the lowest cost first.
    fn settle(&self) {
        let wanted = usize::try_from(self.replicas()).unwrap();
        let mut pods: Vec<(i64, String)> = self
            .model
            .objects()
            .into_values()
            .filter(|object| object["kind"] == "Pod")
            .map(|pod| {
                let cost = &pod["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"];
                let cost = cost.as_str().map_or(0, |cost| cost.parse().unwrap());
                (cost, pod["metadata"]["name"].as_str().unwrap().to_owned())
            })
            .collect();
        pods.sort();
        while pods.len() > wanted {
            let (_, pod) = pods.remove(0);
            let bot = self.grid.bots.lock().unwrap().remove(&pod).unwrap();
            assert_eq!(bot.leases, 0, "{pod} was ended while it ran something");
            self.model.delete("pods", &pod);
        }
        self.grid.bots.lock().unwrap().retain(|pod, _| pods.iter().any(|(_, live)| live == pod));
        while pods.len() < wanted {
            let name = format!("gcc-worker-{}", self.made.fetch_add(1, Ordering::Relaxed));
            self.model.put(
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default",
                "labels": {"app.kubernetes.io/instance": "gcc", "grid.build/kind": "WorkerPool",
                "app.kubernetes.io/component": "worker", "app.kubernetes.io/managed-by": "grid-operator"}},
                "spec": {"nodeName": node_of(&name), "containers": []}}),
            );
            self.grid.bot(&name, 1);
            pods.push((0, name));
        }
        self.model.settle();
    }
}

fn through<K: serde::de::DeserializeOwned + serde::Serialize>(value: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<K>(value.clone()).unwrap()).unwrap()
}

fn later(clock: &Clock, seconds: i64) {
    clock.set(clock.get() + SignedDuration::from_secs(seconds));
}

#[tokio::test]
async fn a_pool_goes_from_zero_to_many_and_back_and_ends_nobody_who_works() {
    let mut world = World::new();
    world.pass().await;
    assert_eq!(world.replicas(), 0, "nothing is needed before the demand is known");
    world.grid.needs(12);
    world.heard().await;
    world.pass().await;
    assert_eq!(world.replicas(), 6, "in one step");
    world.settle();
    // All but one are done.
    for (number, bot) in world.grid.bots.lock().unwrap().values_mut().enumerate() {
        bot.leases = usize::from(number == 0);
        bot.idle_since = (number > 0).then(|| world.clock.get());
    }
    world.grid.needs(1);
    world.heard().await;
    world.pass().await;
    assert_eq!(world.replicas(), 6, "not before the delay");
    later(&world.clock, 61);
    for _ in 0..8 {
        world.pass().await;
        world.settle();
    }
    assert_eq!(world.replicas(), 1);
    let left: Vec<String> = world.grid.bots.lock().unwrap().keys().cloned().collect();
    assert_eq!(left, ["gcc-worker-0"], "the one that works stays");
    world.grid.bots.lock().unwrap().values_mut().for_each(|bot| bot.leases = 0);
    world.grid.needs(0);
    world.heard().await;
    world.pass().await;
    later(&world.clock, 61);
    for _ in 0..8 {
        world.pass().await;
        world.settle();
    }
    assert_eq!(world.replicas(), 0);
    assert_eq!(condition(&world.model, "Ready")["reason"], "ScaledToZero");
    world.model.forget_writes();
    world.pass().await;
    assert_eq!(world.model.writes(), Vec::<String>::new());
}

/// The pods that a ReplicaSet would end before others.
fn marked(world: &World) -> Vec<String> {
    let cost = "controller.kubernetes.io/pod-deletion-cost";
    let objects = world.model.objects().into_values().filter(|object| object["kind"] == "Pod");
    let marked = objects.filter(|pod| pod["metadata"]["annotations"][cost].is_string());
    marked.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_pod_that_is_needed_after_all_is_no_longer_the_first_to_leave() {
    let mut world = World::new();
    world.pass().await;
    world.grid.needs(4);
    world.heard().await;
    world.pass().await;
    world.settle();
    world.model.edit("pods", "gcc-worker-0", |pod| {
        pod["metadata"]["annotations"] = json!({"controller.kubernetes.io/pod-deletion-cost": "-1000"});
    });
    let bots = world.grid.bots.lock().unwrap().clone();
    // The one that marked it ended before the pool became smaller.
    let mut world = World::over(world.model.clone());
    *world.grid.bots.lock().unwrap() = bots;
    world.grid.bots.lock().unwrap().values_mut().for_each(|bot| bot.drain = Drain::Done);
    assert_eq!(marked(&world), ["gcc-worker-0"]);
    world.grid.needs(4);
    world.pass().await;
    world.heard().await;
    world.pass().await;
    assert!(world.grid.bots.lock().unwrap().values().all(|bot| bot.drain == Drain::None));
    assert_eq!(marked(&world), Vec::<String>::new());
}

#[tokio::test]
async fn workers_of_a_cordoned_node_finish_and_are_replaced() {
    let mut world = World::new();
    world.pass().await;
    world.grid.needs(12);
    world.heard().await;
    world.pass().await;
    world.settle();
    for (pod, bot) in world.grid.bots.lock().unwrap().iter_mut() {
        bot.leases = usize::from(pod == "gcc-worker-1" || pod == "gcc-worker-2");
    }
    world.context.fleets.only_nodes(&["n0".to_owned(), "n1".to_owned()].into());
    world.context.fleets.node("n1", Some(NodeState::Leaving));
    while world.grid.drained.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    world.pass().await;
    let pods = |world: &World| {
        let objects = world.model.objects().into_values().filter(|object| object["kind"] == "Pod");
        objects.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let stay = ["gcc-worker-0", "gcc-worker-1", "gcc-worker-2", "gcc-worker-4"];
    assert_eq!(
        pods(&world),
        stay,
        "one of that node still works, and those of others are none of its affair"
    );
    assert_eq!(condition(&world.model, "Draining")["status"], "True");
    world.settle();
    world.grid.bots.lock().unwrap().get_mut("gcc-worker-1").unwrap().drain = Drain::Done;
    world.pass().await;
    world.settle();
    world.pass().await;
    assert!(pods(&world).iter().all(|pod| node_of(pod) == "n0"), "{:?}", pods(&world));
    assert_eq!(condition(&world.model, "Draining"), Value::Null);
    assert_eq!(world.replicas(), 6);
    world.context.fleets.node("n1", None);
    while !world.grid.drained.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_pool_whose_pods_cannot_start_is_not_made_larger() {
    let mut world = World::new();
    world.pass().await;
    world.grid.needs(12);
    world.heard().await;
    world.pass().await;
    assert_eq!(world.replicas(), 6);
    let waiting = json!({"waiting": {"reason": "ErrImagePull"}});
    let names: Vec<String> = (0..6).map(|number| format!("gcc-worker-x{number}")).collect();
    for name in &names {
        world.model.put(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default",
            "labels": {"app.kubernetes.io/instance": "gcc", "grid.build/kind": "WorkerPool",
            "app.kubernetes.io/component": "worker"}}, "status": {"containerStatuses": [{"name": "runner", "image": "gcc",
            "imageID": "", "ready": false, "restartCount": 0, "state": waiting}]}}));
    }
    world.pass().await;
    assert_eq!(world.replicas(), 1, "one goes on trying");
    let ready = condition(&world.model, "Ready");
    assert_eq!((&ready["reason"], &ready["status"]), (&json!("ImageNotPulled"), &json!("False")));
    names.iter().for_each(|name| world.model.delete("pods", name));
    world.settle();
    world.pass().await;
    assert_eq!(world.replicas(), 6, "at once when it starts");
}

#[tokio::test]
async fn a_grid_that_cannot_be_reached_holds_its_pools() {
    let mut world = World::new();
    world.pass().await;
    world.grid.needs(8);
    world.heard().await;
    world.pass().await;
    world.settle();
    assert_eq!(world.replicas(), 4);
    // Another operator begins, which has heard nothing yet.
    let lost = World::over(world.model.clone());
    later(&lost.clock, 3_600);
    lost.pass().await;
    assert_eq!(lost.replicas(), 4);
    assert_eq!(condition(&lost.model, "ScalingLimited")["reason"], "DemandUnknown");
}

/// The clock stands still where nothing sleeps: who waits for the next try would move it.
#[tokio::test(start_paused = true)]
async fn a_grid_is_told_of_its_pools_as_soon_as_it_is_there() {
    let mut world = World::new();
    world.grid.is_down.store(true, Ordering::Relaxed);
    world.grid.needs(0);
    world.pass().await;
    tokio::time::sleep(std::time::Duration::from_secs(100)).await;
    assert_eq!(*world.grid.declared.lock().unwrap(), []);
    world.grid.is_down.store(false, Ordering::Relaxed);
    world.model.settle();
    let there = tokio::time::Instant::now();
    world.pass().await;
    world.heard().await;
    assert_eq!(there.elapsed(), std::time::Duration::ZERO);
    assert_eq!(world.grid.declared.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn pools_are_declared_with_what_they_offer_and_again_when_they_change() {
    let mut world = World::new();
    world.pass().await;
    world.grid.needs(0);
    world.heard().await;
    let last = |world: &World| world.grid.declared.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last(&world).owner, "default/demo");
    assert_eq!(last(&world).pools[0].max_workers, 10);
    let before = world.grid.declared.lock().unwrap().len();
    world.pass().await;
    assert_eq!(world.grid.declared.lock().unwrap().len(), before, "the same is not said again");
    world.model.edit("workerpools", "gcc", |pool| pool["spec"]["autoscaling"]["maxReplicas"] = json!(20));
    world.pass().await;
    while world.grid.declared.lock().unwrap().len() == before {
        tokio::task::yield_now().await;
    }
    assert_eq!(last(&world).pools[0].max_workers, 20);
}

fn condition(model: &Model, type_: &str) -> Value {
    let status = model.object("workerpools", "gcc").unwrap()["status"].clone();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|c| c["type"] == type_).unwrap_or(Value::Null)
}

#[tokio::test]
async fn pools_that_share_a_budget_keep_to_it_by_their_priority() {
    let mut world = World::new();
    world.model.edit("buildgrids", "demo", |grid| grid["spec"]["workerBudget"] = json!({"maxReplicas": 8}));
    world.model.put(through::<WorkerPool>(&json!({"apiVersion": "grid.build/v1alpha1", "kind": "WorkerPool",
        "metadata": {"name": "fast", "namespace": "default"}, "spec": {"gridRef": {"name": "demo"}, "image": "gcc",
        "priority": 5, "autoscaling": {"maxReplicas": 10}}})));
    world.pass().await;
    let needed = |slots| PoolDemand { required_slots: slots, ..PoolDemand::default() };
    let demand = |fast| {
        let pools = vec![("default/gcc".into(), needed(12)), ("default/fast".into(), needed(fast))];
        Some(Demand { pools, unplaced: vec![] })
    };
    world.grid.demand.send_replace(demand(5));
    world.heard().await;
    world.pass().await;
    assert_eq!(world.replicas(), 3, "of six that it needs: five are for the pool of higher priority");
    let limited = |world: &World| {
        let said = condition(&world.model, "ScalingLimited");
        said["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(limited(&world), "AtBudget");
    world.grid.demand.send_replace(demand(0));
    world.heard().await;
    world.pass().await;
    assert_eq!((world.replicas(), limited(&world).as_str()), (6, "Within"), "nobody else needs them now");
}

#[tokio::test]
async fn the_least_of_a_pool_is_within_the_budget_also_where_nobody_knows_the_demand() {
    let world = World::new();
    world.model.edit("buildgrids", "demo", |grid| grid["spec"]["workerBudget"] = json!({"maxReplicas": 3}));
    world.model.edit("workerpools", "gcc", |pool| pool["spec"]["autoscaling"]["minReplicas"] = json!(2));
    world.model.put(through::<WorkerPool>(&json!({"apiVersion": "grid.build/v1alpha1", "kind": "WorkerPool",
        "metadata": {"name": "fast", "namespace": "default"}, "spec": {"gridRef": {"name": "demo"}, "image": "gcc",
        "priority": 5, "autoscaling": {"minReplicas": 2, "maxReplicas": 10}}})));
    world.pass().await;
    assert_eq!(condition(&world.model, "ScalingLimited")["reason"], "DemandUnknown");
    assert_eq!(world.replicas(), 1, "two of three are for the pool of higher priority");
    world.settle();
    world.model.edit("buildgrids", "demo", |grid| grid["spec"]["workerBudget"] = json!({"maxReplicas": 1}));
    world.pass().await;
    assert_eq!(world.replicas(), 1, "nobody is ended for it");
}

#[tokio::test]
async fn pools_of_a_grid_that_is_paused_or_wrong_are_scaled_by_an_operator_that_has_just_begun() {
    for (field, value) in [("paused", json!(true)), ("storageRef", json!({"name": "missing"}))] {
        let world = World::new();
        world.pass().await;
        world.settle();
        world.model.edit("buildgrids", "demo", |grid| grid["spec"][field] = value.clone());
        let mut begun = World::over(world.model.clone());
        begun.grid.needs(8);
        begun.pass().await;
        begun.heard().await;
        begun.pass().await;
        assert_eq!(begun.replicas(), 4, "{field}");
        begun.model.edit("workerpools", "gcc", |pool| pool["spec"]["concurrency"] = json!(4));
        begun.pass().await;
        let declared = || begun.grid.declared.lock().unwrap().len();
        while declared() < 2 {
            tokio::task::yield_now().await;
        }
    }
}
