//! The reconciler of BuildGrid: observe → validate → build → apply → status.
//!
//! - `observe`: the grid's objects, and what it refers to;
//! - `validate`: the wish, checked against that, as [`validate::Grid`]; `authorization` and `raw` are parts of it;
//! - `build`: the objects, purely;
//! - `status`: the conditions, purely; `servers`, `database` and `hibernation` are parts of it;
//! - `deletion`: what is waited for before the grid goes;
//! - `attention`: the link to its Fleet service.

mod attention;
mod authorization;
mod build;
mod database;
mod deletion;
mod hibernation;
mod observe;
mod raw;
mod roles;
mod rollout;
mod servers;
mod status;
mod tls;
mod tokens;
mod validate;

use std::time::Duration;

use grid_operator_api::{BuildGrid, DeletionPolicy};
use grid_operator_apply::{Applied, write_status};
use kube::ResourceExt;

pub(crate) use hibernation::is_asleep;
pub(crate) use observe::kinds;
pub use observe::refers_to;
pub(crate) use roles::{bots_url, cas_url};
pub(crate) use tokens::SHOWN_TOKEN;
pub(crate) use validate::effective_version;

use crate::context::Context;
use crate::error::Result;
use crate::fleet::Key;
use crate::names::Owner;
use crate::outcome::Outcome;
use crate::rollouts::Turn;
use crate::telling;
use crate::trouble::Trouble;
use crate::workload::ailing;
use crate::workload::keeping::{self, keep_claims};
use hibernation::Sleep;
use observe::World;
use status::Report;

/// How often what no watch tells of, a certificate's age for one, is looked at.
const CHECK_AGAIN: Duration = Duration::from_secs(300);

/// How soon pods that are missing are looked for again: why they are is no event of the workload's.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// Brings one grid's objects into the state that its spec asks for, and its status up to date.
///
/// # Errors
/// Where the API server can't be asked or refuses a write. The status tells of it all the same.
pub async fn reconcile(grid: &BuildGrid, context: &Context) -> Result<Outcome> {
    let key = Key::new(&grid.namespace().unwrap_or_default(), &grid.name_any());
    if grid.metadata.deletion_timestamp.is_some() {
        context.fleets.forget(&key);
        return deletion::delete(grid, context).await;
    }
    let world = Box::pin(observe::observe(grid, context)).await?;
    let policy = deletion::policy(grid);
    keeping::guard(grid, policy.unwrap_or(DeletionPolicy::Retain), &world.owned, context).await?;
    let mut report = Report::new(grid, &world);
    let mut applied = Applied { observed: world.owned.clone(), ..Applied::default() };
    let result = Box::pin(bring_about(grid, &world, context, &mut report, &mut applied)).await;
    telling::changes(context, grid, &applied.changes).await;
    if let Err(error) = &result {
        if error.is_conflict() {
            // The world has moved on: half a look at it is no status, and the next pass begins at once.
            return result.map(|()| Outcome::Retry);
        }
        report.trouble = Some(Trouble::from(error));
    }
    let is_missing = !grid.spec.paused && status::awaits_pods(grid, &report, &applied.observed);
    if is_missing {
        report.ailment = ailing::ailment(context, &Owner::new(grid, "BuildGrid")).await?;
    }
    let updated = status::with_status(grid, &report, &applied.observed, context.mint.now());
    let is_news = write_status(&context.client, &context.leadership, grid, &updated).await?;
    telling::trouble(context, grid, report.trouble.as_ref(), is_news).await;
    if let Some(left) = database::news(grid, &updated).filter(|_| is_news) {
        context.events.warning(grid, "DatabaseChanged", "Reconcile", left.to_owned()).await;
    }
    result?;
    if report.trouble.is_some() {
        return Ok(Outcome::Retry);
    }
    let again = if is_missing { LOOK_AGAIN } else { CHECK_AGAIN };
    let again = again.min(report.turn.as_ref().and_then(Turn::again).unwrap_or(again));
    Ok(Outcome::After(again.min(report.sleep.as_ref().and_then(Sleep::again).unwrap_or(again))))
}

async fn bring_about(
    grid: &BuildGrid,
    world: &World,
    context: &Context,
    report: &mut Report,
    applied: &mut Applied,
) -> Result<()> {
    if let Some(policy) = deletion::policy(grid) {
        keep_claims(policy, &Owner::new(grid, "BuildGrid"), context, applied).await?;
    }
    if grid.spec.paused {
        attention::attend_as_it_is(grid, world, context);
        return Ok(());
    }
    let valid = match validate::validate(grid, world, &context.images, context.mint.now()) {
        Ok(valid) => valid,
        Err(trouble) => {
            attention::attend_as_it_is(grid, world, context);
            report.trouble = Some(trouble);
            return Ok(());
        }
    };
    let secrets = tls::secrets(&valid, world, context.mint.as_ref())?;
    let objects = build::build(&valid, &secrets, &world.missing_kinds);
    report.valid(&valid);
    attention::attend(&valid, world, &secrets, context);
    report.unplaced = context.fleets.unplaced(&valid.key());
    rollout::roll_out(objects, &valid, context, report, applied).await
}
