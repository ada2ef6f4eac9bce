//! The reconciler of WorkerPool: observe → validate → build → apply → status.
//!
//! A pool belongs to no grid: it finds the one that it names, waits for it, and goes on without it where it
//! goes away. `scaling` decides how many pods there are to be, `autoscale` carries that out; `upkeep` looks after the
//! pods that there are.

mod autoscale;
mod build;
mod observe;
mod scaling;
mod status;
mod upkeep;
mod validate;

use std::time::Duration;

use grid_operator_api::WorkerPool;
use grid_operator_apply::{Applied, write_status};

pub use autoscale::Scalers;

use crate::context::Context;
use crate::error::Result;
use crate::names::Names;
use crate::outcome::Outcome;
use crate::telling;
use crate::trouble::Trouble;
use crate::workload::Progress;
use crate::workload::ailing::Ailment;
use observe::World;
use status::Report;

/// How often Secrets, which no watch tells of, are looked at.
const CHECK_AGAIN: Duration = Duration::from_secs(300);

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
    if let Err(error) = &result
        && !error.is_conflict()
    {
        report.trouble = Some(Trouble::from(error));
    }
    telling::changes(context, pool, &applied.changes).await;
    let updated = status::with_status(pool, &report, &applied.observed, context.mint.now());
    let is_news = write_status(&context.client, &context.leadership, pool, &updated).await?;
    telling::trouble(context, pool, report.trouble.as_ref(), is_news).await;
    result?;
    if report.trouble.is_some() {
        return Ok(Outcome::Retry);
    }
    let scaled = report.scaled.and_then(|scaled| scaled.again);
    let again = [scaled, report.tended.again].into_iter().flatten().min();
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
    let mut valid = match validate::validate(pool, world, &context.images, context.mint.now()) {
        Ok(valid) => valid,
        Err(trouble) => {
            report.trouble = Some(trouble);
            return Ok(());
        }
    };
    report.version = Some(valid.version.clone());
    report.waits = valid.grid_waits.clone();
    report.asleep = valid.asleep;
    let progress = Progress::of(&world.owned, &Names(&valid.owner.name).component(build::WORKER));
    report.tended = Box::pin(upkeep::tend(pool, &progress, context)).await?;
    if let Some(spec) = pool.spec.autoscaling.as_ref().filter(|_| !valid.asleep) {
        let hopeless = progress.available == 0
            && report.tended.ailment.as_ref().is_some_and(Ailment::is_of_the_template);
        let scaled = Box::pin(autoscale::scale(pool, spec, &world.owned, hopeless, context)).await?;
        valid.replicas = Some(scaled.replicas);
        report.scaled = Some(scaled);
    }
    let wanted = build::build(&valid).into_desired(&valid)?;
    let (uid, namespace) = (&valid.owner.uid, &valid.owner.namespace);
    context.applier.apply(uid, namespace, &wanted, applied).await?;
    context.applier.remove_orphans(uid, namespace, &wanted, |_, _| false, applied).await?;
    Ok(())
}
