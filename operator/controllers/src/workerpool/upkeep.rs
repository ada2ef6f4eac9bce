//! Keeps a pool's pods well: workers of nodes that are to be emptied leave once they are drained, workers that fail by
//! themselves are replaced, and what keeps pods from starting is told.
//!
//! Deciding is a pure function, [`plan`]. Pods are asked for only where something may be to do; a grid that can't be
//! asked loses no worker by this.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use grid_operator_api::WorkerPool;
use grid_operator_apply::Kind;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use super::build::WORKER;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::fleet::{Bot, Drain, FleetApi, FleetError, Key, Reason, Target};
use crate::names::Owner;
use crate::workload::Progress;
use crate::workload::ailing::{self, Ailment};

/// Failures of its own in a row after which a worker is replaced.
const FAULTS: u32 = 5;
/// How often workers are asked for their failures, and the least time between two that are replaced for theirs: what
/// ails all of them alike is not mended by new ones.
const FAULTS_EVERY: Duration = Duration::from_secs(60);
/// How soon to look again at what drains, or doesn't come up: no event tells of either.
const AGAIN: Duration = Duration::from_secs(5);

/// What was found and done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tended {
    /// What keeps pods from running.
    pub(crate) ailment: Option<Ailment>,
    /// Nodes that the pool's workers are leaving.
    pub(crate) leaving: BTreeSet<String>,
    /// Pods of a grid that sleeps which are ending, and may still be at work: a Deployment counts them no more.
    pub(crate) ending: i32,
    /// When to look again.
    pub(crate) again: Option<Duration>,
}

/// Looks after the pods of a pool, whose grid may be `asleep`.
///
/// # Errors
/// Where the API server can't be asked. That Fleet can't is none.
pub(crate) async fn tend(
    pool: &WorkerPool,
    progress: &Progress,
    asleep: bool,
    context: &Context,
) -> Result<Tended> {
    let nodes = context.fleets.nodes();
    let is_missing = progress.wanted.is_some_and(|wanted| progress.available < wanted);
    let now = context.mint.now();
    let asks_faults = progress.available > 0 && context.scalers.is_due(pool, now, FAULTS_EVERY);
    let had_pods = asleep && pool.status.as_ref().is_some_and(|status| status.replicas != 0);
    if !is_missing && nodes.leaving().is_empty() && !asks_faults && !had_pods {
        return Ok(Tended::default());
    }
    let namespace = pool.namespace().unwrap_or_default();
    let (pods, gone) = list(pool, &namespace, context).await?;
    let ending = if asleep { i32::try_from(gone).unwrap_or(i32::MAX) } else { 0 };
    let on_leaving =
        |pod: &Pod| node_of(pod).filter(|node| nodes.leaving().contains(node)).map(str::to_owned);
    let leaving: BTreeSet<String> = pods.iter().filter_map(on_leaving).collect();
    let mut tended = Tended {
        ailment: is_missing.then(|| ailing::first(&pods)).flatten(),
        again: (is_missing || !leaving.is_empty() || ending > 0).then_some(AGAIN),
        leaving,
        ending,
    };
    let grid = Key::new(&namespace, pool.spec.grid_ref.name.as_deref().unwrap_or_default());
    if tended.leaving.is_empty() && !asks_faults {
        return Ok(tended);
    }
    let Some(fleet) = context.fleets.api(&grid) else { return Ok(tended) };
    let name = Key::new(&namespace, &pool.name_any()).path();
    match fleet.bots(&name).await {
        Ok(bots) => {
            let plan = plan(&pods, &bots, &tended.leaving, asks_faults);
            if plan.drains.is_some() {
                tended.again = Some(AGAIN);
            }
            carry_out(pool, &plan, fleet.as_ref(), context).await?;
        }
        Err(error) => tracing::warn!(pool = name, %error, "the workers can't be asked for: none is replaced"),
    }
    Ok(tended)
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plan {
    /// The pod whose worker fails by itself, with its sessions: it gets no more actions.
    drains: Option<(String, Vec<String>)>,
    /// Pods that nothing runs on any more, with their uids.
    ends: BTreeMap<String, String>,
}

/// Pods end once every session of theirs is drained for the node's or their own sake; of those that fail, one begins
/// to leave at a time.
fn plan(pods: &[Pod], bots: &[Bot], leaving: &BTreeSet<String>, asks_faults: bool) -> Plan {
    let mut plan = Plan::default();
    let mut one_leaves = false;
    let mut faulty = None;
    for pod in pods {
        let name = pod.name_any();
        let of_pod: Vec<&Bot> = bots.iter().filter(|bot| bot.pod() == name).collect();
        if of_pod.is_empty() {
            continue;
        }
        let for_node = node_of(pod).is_some_and(|node| leaving.contains(node));
        let is_ours = |bot: &&Bot| match bot.reason {
            Reason::Faulty => true,
            Reason::Node => for_node,
            Reason::ScaleDown | Reason::Other => false,
        };
        let for_faults = of_pod.iter().any(|bot| bot.drain != Drain::None && bot.reason == Reason::Faulty);
        one_leaves |= for_faults;
        if of_pod.iter().all(|bot| bot.drain == Drain::Done && is_ours(bot)) {
            plan.ends.insert(name, pod.uid().unwrap_or_default());
        } else if of_pod.iter().any(|bot| bot.faults >= FAULTS && bot.drain == Drain::None) {
            faulty.get_or_insert_with(|| (name, of_pod.iter().map(|bot| bot.id.clone()).collect()));
        }
    }
    plan.drains = faulty.filter(|_| asks_faults && !one_leaves);
    plan
}

async fn carry_out(pool: &WorkerPool, plan: &Plan, fleet: &dyn FleetApi, context: &Context) -> Result<()> {
    let namespace = pool.namespace().unwrap_or_default();
    if let Some((pod, sessions)) = &plan.drains {
        let grace = Duration::from_secs(u64::try_from(pool.spec.grace_period_seconds).unwrap_or_default());
        if let Err(error) = drain(sessions, grace, fleet, context).await {
            tracing::warn!(pod, %error, "a worker that fails by itself could not be told to leave");
        } else {
            let note = format!(
                "{pod} failed {FAULTS} actions in a row by its own fault: it is drained and replaced"
            );
            context.events.warning(pool, "WorkerFaulty", "Replace", note).await;
        }
    }
    for (pod, uid) in &plan.ends {
        context.applier.end(&namespace, Kind::of::<Pod>(), pod, uid).await?;
        context
            .events
            .normal(pool, "WorkerLeft", "Drain", format!("{pod} was drained, and is replaced"))
            .await;
    }
    Ok(())
}

async fn drain(
    sessions: &[String],
    grace: Duration,
    fleet: &dyn FleetApi,
    context: &Context,
) -> std::result::Result<(), FleetError> {
    if !context.leadership.is_held() {
        return Err(FleetError("no longer the leader".to_owned()));
    }
    let targets: Vec<Target> = sessions.iter().cloned().map(Target::Bot).collect();
    fleet.drain(&targets, grace, Reason::Faulty).await
}

/// The pods of a pool that aren't ending, and how many are.
async fn list(pool: &WorkerPool, namespace: &str, context: &Context) -> Result<(Vec<Pod>, usize)> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let selector = Owner::new(pool, "WorkerPool").pod_selector(WORKER);
    let list = api.list(&ListParams::default().labels(&selector)).await;
    let list = list.map_err(Error::read(format!("the pods of the WorkerPool {}", pool.name_any())))?;
    let (pods, ending): (Vec<Pod>, Vec<Pod>) =
        list.items.into_iter().partition(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok((pods, ending.len()))
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, node: &str) -> Pod {
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "uid": format!("uid-{name}")},
            "spec": {"nodeName": node, "containers": []}}))
        .unwrap()
    }

    fn bot(id: &str, drain: Drain, reason: Reason, faults: u32) -> Bot {
        Bot { id: id.to_owned(), leases: 0, idle_since: None, drain, reason, faults }
    }

    fn ends(plan: &Plan) -> Vec<&str> {
        plan.ends.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_pod_ends_once_every_session_of_it_is_drained_for_its_node() {
        let pods = [pod("a", "n1"), pod("b", "n1"), pod("c", "n2"), pod("d", "n1")];
        let bots = [
            bot("a/0", Drain::Done, Reason::Node, 0),
            bot("a/1", Drain::Done, Reason::Node, 0),
            bot("b/0", Drain::Done, Reason::Node, 0),
            bot("b/1", Drain::Going, Reason::Node, 0),
            bot("c/0", Drain::Done, Reason::Node, 0),
            bot("d/0", Drain::Done, Reason::Other, 0),
        ];
        let leaving = ["n1".to_owned()].into();
        // c's node was uncordoned meanwhile, d is drained by a person who will look at it.
        assert_eq!(ends(&plan(&pods, &bots, &leaving, false)), ["a"]);
        assert_eq!(ends(&plan(&pods, &bots, &BTreeSet::new(), false)), Vec::<&str>::new());
    }

    #[test]
    fn of_those_that_fail_one_leaves_at_a_time() {
        let pods = [pod("a", "n1"), pod("b", "n1"), pod("c", "n1")];
        let mut bots = [
            bot("a/0", Drain::None, Reason::ScaleDown, FAULTS - 1),
            bot("b/0", Drain::None, Reason::ScaleDown, FAULTS),
            bot("c/0", Drain::None, Reason::ScaleDown, FAULTS + 3),
        ];
        let none = BTreeSet::new();
        let first = plan(&pods, &bots, &none, true);
        assert_eq!(first.drains, Some(("b".to_owned(), vec!["b/0".to_owned()])));
        assert_eq!(plan(&pods, &bots, &none, false).drains, None, "not before it is time");
        bots[1] = bot("b/0", Drain::Going, Reason::Faulty, FAULTS);
        assert_eq!(plan(&pods, &bots, &none, true), Plan::default(), "b has to leave first");
        bots[1] = bot("b/0", Drain::Done, Reason::Faulty, FAULTS);
        assert_eq!(ends(&plan(&pods, &bots, &none, true)), ["b"]);
    }
}
