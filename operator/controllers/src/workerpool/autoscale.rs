//! Carries out what `scaling` decides: asks Fleet who is there, drains, marks the pods that are to leave.
//!
//! Whatever can't be asked or done leaves the pool as large as it is: a grid that can't be reached scales nothing down.

use std::collections::HashMap;
use std::time::Duration;

use grid_operator_api::{Autoscaling, WorkerPool};
use grid_operator_apply::Kind;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use parking_lot::Mutex;
use serde_json::json;

use super::budget::{self, Claim};
use super::build::WORKER;
use super::observe::World;
use super::scaling::{self, Departure, Goal, History, Limits, LivePod};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::fleet::{Bot, Drain, FleetApi, FleetError, Key, Reason, Target};
use crate::names::{Names, Owner};

/// The annotation by which a ReplicaSet chooses the pods that leave: the lowest first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const FIRST_TO_LEAVE: &str = "-1000";

/// What is remembered of each pool, by its uid.
#[derive(Default)]
pub struct Scalers {
    pools: Mutex<HashMap<String, Scaler>>,
}

struct Scaler {
    history: History,
    /// A worker may be draining: after a start nobody knows.
    may_drain: bool,
    /// When the workers were last asked for their failures.
    asked_faults: Option<Timestamp>,
}

impl Default for Scaler {
    fn default() -> Self {
        Self { history: History::default(), may_drain: true, asked_faults: None }
    }
}

impl Scalers {
    /// Forgets a pool that is gone.
    pub(crate) fn forget(&self, pool: &WorkerPool) {
        self.pools.lock().remove(&pool.uid().unwrap_or_default());
    }

    /// Whether it is time to ask a pool's workers for their failures; if so, the next time is counted from now.
    pub(crate) fn is_due(&self, pool: &WorkerPool, now: Timestamp, every: Duration) -> bool {
        self.with(pool, |scaler| {
            let since =
                scaler.asked_faults.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
            let is_due = since.is_none_or(|since| since >= every);
            if is_due {
                scaler.asked_faults = Some(now);
            }
            is_due
        })
    }

    fn with<R>(&self, pool: &WorkerPool, act: impl FnOnce(&mut Scaler) -> R) -> R {
        act(self.pools.lock().entry(pool.uid().unwrap_or_default()).or_default())
    }
}

/// What came of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scaled {
    pub(crate) replicas: i32,
    /// What keeps it from having what is needed; unknown where the demand is.
    pub(crate) limited: Option<Limited>,
    pub(crate) again: Option<Duration>,
}

/// What keeps a pool from having as many pods as its demand asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limited {
    /// Nothing does.
    Not,
    /// Its own maximum.
    ByMaximum,
    /// What the grid's pools may have together.
    ByBudget,
}

/// How soon to look whether another pool has given pods up.
const BUDGET_AGAIN: Duration = Duration::from_secs(5);

/// Chooses the number of pods, and prepares those that leave. `hopeless` says that no pod can start, nor could another.
///
/// # Errors
/// Where the API server can't be asked. That Fleet can't is none.
pub(crate) async fn scale(
    pool: &WorkerPool,
    spec: &Autoscaling,
    world: &World,
    hopeless: bool,
    context: &Context,
) -> Result<Scaled> {
    let namespace = pool.namespace().unwrap_or_default();
    let name = Names(&pool.name_any()).component(WORKER);
    let live = world.owned.typed::<Deployment>(&name).and_then(|deployment| deployment.spec?.replicas);
    let current = live.unwrap_or(spec.min_replicas);
    let (grid, key) = (
        Key::new(&namespace, pool.spec.grid_ref.name.as_deref().unwrap_or_default()),
        Key::new(&namespace, &pool.name_any()),
    );
    let (Some(demand), Some(fleet)) = (context.fleets.demand(&grid, &key), context.fleets.api(&grid)) else {
        return Ok(hold(spec, live.unwrap_or(0), allowed(&key, &grid, world, context)));
    };
    let now = context.mint.now();
    let limits = Limits::of(spec, pool.spec.concurrency);
    let (goal, may_drain) = context.scalers.with(pool, |scaler| {
        (scaling::goal(limits, current, &demand, &mut scaler.history, now), scaler.may_drain)
    });
    let Goal { mut pods, limited, mut again } = goal;
    let mut limited = if limited { Limited::ByMaximum } else { Limited::Not };
    if let Some(allowed) = allowed(&key, &grid, world, context)
        && pods > allowed
    {
        (pods, limited, again) = (allowed, Limited::ByBudget, Some(BUDGET_AGAIN));
    }
    if hopeless {
        // More pods that can't start help nobody: one goes on trying.
        pods = pods.min(spec.min_replicas.max(1)).min(current.max(1));
    }
    if pods >= current && !may_drain {
        return Ok(Scaled { replicas: pods, limited: Some(limited), again });
    }
    let replicas = leave(pool, &key, current, pods, fleet.as_ref(), context).await?;
    // What drains is looked at again: its end is an event of Fleet's, not of Kubernetes'.
    let soon = (replicas != pods).then_some(Duration::from_secs(2));
    Ok(Scaled { replicas, limited: Some(limited), again: soon.or(again) })
}

/// What a pool has where nobody knows its demand: the pods that there are, and its minimum as far as the budget goes.
fn hold(spec: &Autoscaling, live: i32, allowed: Option<i32>) -> Scaled {
    let wanted = spec.min_replicas.max(live);
    let replicas = allowed.map_or(wanted, |allowed| wanted.min(allowed.max(live)));
    Scaled { replicas, limited: None, again: (replicas < wanted).then_some(BUDGET_AGAIN) }
}

/// The pods that it may have beside the others of its grid; nothing where they share no budget.
fn allowed(key: &Key, grid: &Key, world: &World, context: &Context) -> Option<i32> {
    let budget = world.grid.as_ref()?.spec.worker_budget.as_ref()?.max_replicas;
    let claims: Vec<Claim> = world.sharing.iter().map(|pool| claim(pool, grid, context)).collect();
    Some(budget::allowed(budget, &claims, &key.name))
}

/// What a pool has and would have; one whose demand nobody knows would have what it has.
fn claim(pool: &WorkerPool, grid: &Key, context: &Context) -> Claim {
    let (name, namespace) = (pool.name_any(), pool.namespace().unwrap_or_default());
    let status = pool.status.as_ref();
    let current = status.map_or(0, |status| status.replicas.max(status.desired_replicas.unwrap_or(0)));
    let limits = pool.spec.autoscaling.as_ref().map(|spec| Limits::of(spec, pool.spec.concurrency));
    let demand = context.fleets.demand(grid, &Key::new(&namespace, &name));
    let wanted = limits.zip(demand).map_or(current, |(limits, demand)| scaling::needed(limits, &demand));
    let least = limits.map_or(0, |limits| limits.min);
    Claim { name, priority: pool.spec.priority, least, wanted, current }
}

/// One step towards fewer pods; or back, where workers are draining that are needed after all.
async fn leave(
    pool: &WorkerPool,
    key: &Key,
    current: i32,
    goal: i32,
    fleet: &dyn FleetApi,
    context: &Context,
) -> Result<i32> {
    let found = live_pods(pool, &key.namespace, context).await?;
    let pods: Vec<LivePod> =
        found.iter().map(|pod| LivePod { name: pod.name_any(), ready: is_ready(pod) }).collect();
    let held = current.max(goal);
    let bots = match fleet.bots(&key.path()).await {
        Ok(bots) => bots,
        Err(error) => {
            tracing::warn!(pool = key.path(), %error, "the workers can't be asked for: none leaves");
            return Ok(held);
        }
    };
    let departure = scaling::depart(goal, current, &pods, &bots);
    // Those that leave for another reason are none of scaling's.
    let is_ours = |bot: &Bot| bot.drain != Drain::None && bot.reason == Reason::ScaleDown;
    let drains = bots.iter().any(is_ours) || !departure.drain.is_empty() || !departure.leave.is_empty();
    context.scalers.with(pool, |scaler| scaler.may_drain = drains);
    // Where there are more pods than are wanted, a mark is what the ReplicaSet still chooses by.
    let is_even = i32::try_from(found.len()).is_ok_and(|existing| existing <= current);
    for pod in
        found.iter().filter(|pod| is_even && is_marked(pod) && !departure.leave.contains(&pod.name_any()))
    {
        mark(pod, None, &key.namespace, context).await?;
    }
    let grace = Duration::from_secs(u64::try_from(pool.spec.grace_period_seconds).unwrap_or_default());
    if let Err(error) = tell(&departure, grace, fleet, context).await {
        tracing::warn!(pool = key.path(), %error, "workers could not be told to leave or to stay: none leaves");
        return Ok(held);
    }
    for pod in found.iter().filter(|pod| departure.leave.contains(&pod.name_any())) {
        mark(pod, Some(FIRST_TO_LEAVE), &key.namespace, context).await?;
    }
    Ok(departure.replicas)
}

/// Has a pod leave before others, or no more so.
async fn mark(pod: &Pod, cost: Option<&str>, namespace: &str, context: &Context) -> Result<()> {
    // A leader that was stopped meanwhile must not have it leave who works again.
    let metadata = json!({"resourceVersion": pod.resource_version(), "annotations": {DELETION_COST: cost}});
    let patch = json!({"metadata": metadata});
    context.applier.patch(namespace, Kind::of::<Pod>(), &pod.name_any(), &patch).await?;
    Ok(())
}

fn is_marked(pod: &Pod) -> bool {
    pod.annotations().get(DELETION_COST).is_some_and(|cost| cost == FIRST_TO_LEAVE)
}

async fn tell(
    departure: &Departure,
    grace: Duration,
    fleet: &dyn FleetApi,
    context: &Context,
) -> std::result::Result<(), FleetError> {
    if !context.leadership.is_held() {
        return Err(FleetError("no longer the leader".to_owned()));
    }
    if !departure.undrain.is_empty() {
        fleet.undrain(&targets(&departure.undrain)).await?;
    }
    if !departure.drain.is_empty() {
        fleet.drain(&targets(&departure.drain), grace, Reason::ScaleDown).await?;
    }
    Ok(())
}

fn targets(sessions: &[String]) -> Vec<Target> {
    sessions.iter().cloned().map(Target::Bot).collect()
}

/// The pods of a pool that aren't leaving.
async fn live_pods(pool: &WorkerPool, namespace: &str, context: &Context) -> Result<Vec<Pod>> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let selector = Owner::new(pool, "WorkerPool").pod_selector(WORKER);
    let list = api.list(&ListParams::default().labels(&selector)).await;
    let list = list.map_err(Error::read(format!("the pods of the WorkerPool {}", pool.name_any())))?;
    Ok(list.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}
