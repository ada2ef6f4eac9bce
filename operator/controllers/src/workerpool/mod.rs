//! The reconciler of WorkerPool: observe → validate → build → apply → status.
//!
//! A pool belongs to no grid: it finds the one that it names, waits for it, and goes on without it where it
//! goes away. `scaling` decides how many pods there are to be, `budget` how many it may
//! have beside other pools, `autoscale` carries that out; `upkeep` looks after the
//! pods that there are.

mod autoscale;
mod budget;
mod build;
mod observe;
mod scaling;
mod status;
mod upkeep;
mod validate;

use std::time::Duration;

use grid_operator_api::{BuildGrid, WorkerPool};
use grid_operator_apply::{Applied, Desired, Kind, write_status};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};

pub use autoscale::Scalers;
pub use observe::refers_to;

use crate::buildgrid::is_asleep;
use crate::context::Context;
use crate::error::Result;
use crate::names::Names;
use crate::outcome::Outcome;
use crate::rollouts::{ROLLOUT_PENDING, Turn};
use crate::telling;
use crate::trouble::Trouble;
use crate::workload::Progress;
use crate::workload::ailing::Ailment;
use crate::workload::revision::{self, Stage};
use observe::World;
use status::Report;

/// How often it is looked at all the same, should a watch have missed something.
const CHECK_AGAIN: Duration = Duration::from_secs(300);

/// How soon to look again where another resource's rollout is waited for.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// Brings one pool's objects into the state that its spec asks for, and its status up to date.
///
/// # Errors
/// Where the API server can't be asked or refuses a write. The status tells of it all the same.
pub async fn reconcile(pool: &WorkerPool, context: &Context) -> Result<Outcome> {
    if pool.metadata.deletion_timestamp.is_some() {
        context.scalers.forget(pool);
        return Ok(Outcome::AwaitChange);
    }
    let world = Box::pin(observe::observe(pool, context)).await?;
    let mut report = Report::default();
    let mut applied = Applied { observed: world.owned.clone(), ..Applied::default() };
    let result = Box::pin(bring_about(pool, &world, context, &mut report, &mut applied)).await;
    telling::changes(context, pool, &applied.changes).await;
    if let Err(error) = &result {
        if error.is_conflict() {
            // The world has moved on: half a look at it is no status, and the next pass begins at once.
            return result.map(|()| Outcome::Retry);
        }
        report.trouble = Some(Trouble::from(error));
    }
    let updated = status::with_status(pool, &report, &applied.observed, context.mint.now());
    let is_news = write_status(&context.client, &context.leadership, pool, &updated).await?;
    telling::trouble(context, pool, report.trouble.as_ref(), is_news).await;
    result?;
    if report.trouble.is_some() {
        return Ok(Outcome::Retry);
    }
    let scaled = report.scaled.and_then(|scaled| scaled.again);
    let turn = report.turn.as_ref().and_then(Turn::again);
    let version = report.held_version.as_ref().map(|_| LOOK_AGAIN);
    let again = [scaled, report.tended.again, turn, version].into_iter().flatten().min();
    Ok(Outcome::After(again.unwrap_or(CHECK_AGAIN).min(CHECK_AGAIN)))
}

async fn bring_about(
    pool: &WorkerPool,
    world: &World,
    context: &Context,
    report: &mut Report,
    applied: &mut Applied,
) -> Result<()> {
    if pool.spec.paused {
        return Ok(());
    }
    let mut valid = match validate::validate(pool, world, context) {
        Ok(valid) => valid,
        Err(trouble) => {
            report.trouble = Some(trouble);
            return Box::pin(rest(pool, world, context, report, applied)).await;
        }
    };
    report.version = Some(valid.version.clone());
    report.waits = valid.grid_waits.clone();
    report.asleep = valid.asleep;
    report.held_version = valid.held_version.clone();
    let progress = Progress::of(&world.owned, &Names(&valid.owner.name).component(build::WORKER));
    report.tended = Box::pin(upkeep::tend(pool, &progress, valid.asleep, context)).await?;
    if let Some(spec) = pool.spec.autoscaling.as_ref().filter(|_| !valid.asleep) {
        let hopeless = progress.available == 0
            && report.tended.ailment.as_ref().is_some_and(Ailment::is_of_the_template);
        let scaled = Box::pin(autoscale::scale(pool, spec, world, hopeless, context)).await?;
        valid.replicas = Some(scaled.replicas);
        report.scaled = Some(scaled);
    }
    let (rest, workers) = build::build(&valid).into_phases(&valid)?;
    let (uid, namespace) = (&valid.owner.uid, &valid.owner.namespace);
    context.applier.apply(uid, namespace, &rest, applied).await?;
    let stage = Stage { revision: &valid.revision, wish: &valid.wish };
    let drafts = [workers];
    let turn = match world.grid.as_ref().filter(|grid| is_pending(grid)) {
        Some(_) if drafts[0].is_behind(&applied.observed, &stage) => {
            Turn::Wait("the servers of its grid come first".to_owned(), LOOK_AGAIN)
        }
        _ => {
            let maintenance = world.grid.as_ref().and_then(|grid| grid.spec.maintenance.as_ref());
            revision::turn(&drafts, &applied.observed, &stage, &valid.owner, maintenance, context)
        }
    };
    let (is_done, workers) =
        revision::apply_in_order(&drafts, &stage, &turn, &valid.owner, context, applied).await?;
    report.turn = Some(turn);
    if is_done && valid.held_version.is_none() {
        context.rollouts.pool_settled(&valid.grid, uid);
    }
    let wanted: Vec<Desired> = rest.into_iter().chain(workers).collect();
    context.applier.remove_orphans(uid, namespace, &wanted, |_, _| false, applied).await?;
    Ok(())
}

/// What is wrong with a pool leaves its pods as they are, but where its grid sleeps: there, none is to run.
async fn rest(
    pool: &WorkerPool,
    world: &World,
    context: &Context,
    report: &mut Report,
    applied: &mut Applied,
) -> Result<()> {
    let Some(grid) = &world.grid else { return Ok(()) };
    if !is_asleep(grid, context.mint.now()).unwrap_or(false) {
        return Ok(());
    }
    let name = Names(&pool.name_any()).component(build::WORKER);
    let progress = Progress::of(&world.owned, &name);
    report.tended = upkeep::tend(pool, &progress, true, context).await?;
    let kind = Kind::of::<Deployment>();
    if let Some(live) = world.owned.get(kind, &name).filter(|_| progress.wanted != Some(0)) {
        let namespace = pool.namespace().unwrap_or_default();
        let desired = Desired::from_value(kind, without_pods(live))?;
        let uid = pool.uid().unwrap_or_default();
        context.applier.apply(&uid, &namespace, &[desired], applied).await?;
    }
    Ok(())
}

/// A workload as it is, but for its pods.
fn without_pods(live: &DynamicObject) -> Value {
    let mut annotations = live.annotations().clone();
    annotations.retain(|name, _| name.starts_with("grid.build/"));
    let mut spec = live.data["spec"].clone();
    spec["replicas"] = json!(0);
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": live.metadata.name,
            "namespace": live.metadata.namespace,
            "labels": live.metadata.labels,
            "annotations": annotations,
            "ownerReferences": live.metadata.owner_references,
        },
        "spec": spec,
    })
}

/// The servers of a grid have still to be moved.
fn is_pending(grid: &BuildGrid) -> bool {
    let conditions = grid.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.type_ == ROLLOUT_PENDING && condition.status == "True")
}
