//! The reconciler of CasStorage: observe → validate → build → apply → status, and a deletion that waits for the
//! grids that use it.

mod access;
mod build;
mod deletion;
mod expiry;
mod observe;
mod status;

use std::time::Duration;

use grid_operator_api::{CasStorage, CasStorageSpec};
use grid_operator_apply::{Applied, Desired, content_hash, write_status};
use serde_json::json;

pub(crate) use access::Access;
pub use expiry::Cleanups;
pub use observe::refers_to;

use access::SERVER;

use crate::buildgrid::effective_version;
use crate::context::Context;
use crate::error::Result;
use crate::mutual_tls::MutualTls;
use crate::names::Owner;
use crate::outcome::Outcome;
use crate::rollouts::Turn;
use crate::telling;
use crate::trouble::Trouble;
use crate::workload::keeping::{self, keep_claims};
use crate::workload::revision::{self, Stage};
use crate::workload::{ailing, growth};
use observe::World;
use status::Report;

/// How often what no watch tells of, the end of a cleanup for one, is looked at.
const CHECK_AGAIN: Duration = Duration::from_secs(300);

/// How soon pods that are missing are looked for again: why they are is no event of the workload's.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// Brings one tier's objects into the state that its spec asks for, and its status up to date.
///
/// # Errors
/// Where the API server can't be asked or refuses a write. The status tells of it all the same.
pub async fn reconcile(storage: &CasStorage, context: &Context) -> Result<Outcome> {
    let world = Box::pin(observe::observe(storage, context)).await?;
    let mut report = Report::new(&world);
    let mut applied = Applied { observed: world.owned.clone(), ..Applied::default() };
    context.cleanups.note(storage, world.cleaned.as_ref());
    if storage.metadata.deletion_timestamp.is_some() {
        let owner = Owner::new(storage, "CasStorage");
        keep_claims(storage.spec.deletion_policy, &owner, context, &mut applied).await?;
        return deletion::delete(storage, &world, &applied.observed, context).await;
    }
    deletion::guard(storage, &world, context).await?;
    keeping::guard(storage, storage.spec.deletion_policy, &world.owned, context).await?;
    let result = Box::pin(bring_about(storage, &world, context, &mut report, &mut applied)).await;
    telling::changes(context, storage, &applied.changes).await;
    if let Err(error) = &result {
        if error.is_conflict() {
            // The world has moved on: half a look at it is no status, and the next pass begins at once.
            return result.map(|()| Outcome::Retry);
        }
        report.trouble = Some(Trouble::from(error));
    }
    let is_missing = !storage.spec.paused && status::lacks_pods(storage, &applied.observed);
    if is_missing {
        report.ailment = ailing::ailment(context, &Owner::new(storage, "CasStorage")).await?;
    }
    let updated = status::with_status(storage, &report, &applied.observed, context.mint.now());
    let is_news = write_status(&context.client, &context.leadership, storage, &updated).await?;
    telling::trouble(context, storage, report.trouble.as_ref(), is_news).await;
    result?;
    Ok(match report.trouble {
        Some(_) => Outcome::Retry,
        None => {
            let again = if is_missing { LOOK_AGAIN } else { CHECK_AGAIN };
            Outcome::After(again.min(report.turn.as_ref().and_then(Turn::again).unwrap_or(again)))
        }
    })
}

async fn bring_about(
    storage: &CasStorage,
    world: &World,
    context: &Context,
    report: &mut Report,
    applied: &mut Applied,
) -> Result<()> {
    let owner = Owner::new(storage, "CasStorage");
    keep_claims(storage.spec.deletion_policy, &owner, context, applied).await?;
    if storage.spec.paused {
        return expiry::suspend(&owner, context, applied).await;
    }
    let tier = match tier(storage, world, context)? {
        Ok(tier) => tier,
        Err(trouble) => {
            report.trouble = Some(trouble);
            return Ok(());
        }
    };
    report.valid(&tier.access, &tier.version);
    let phases = build::build(&tier).into_phases(&tier)?;
    let (uid, namespace) = (&tier.owner.uid, &tier.owner.namespace);
    if let Some(volume) = &tier.spec.volume
        && !growth::grow(context, &tier.owner, SERVER, &volume.size, applied).await?
    {
        return Ok(());
    }
    context.applier.apply(uid, namespace, &phases.rest, applied).await?;
    let wish = wish(&tier);
    let stage = Stage { revision: &tier.revision, wish: &wish };
    let maintenance = tier.spec.maintenance.as_ref();
    let turn = revision::turn(&phases.servers, &applied.observed, &stage, &tier.owner, maintenance, context);
    let (is_done, servers) =
        revision::apply_in_order(&phases.servers, &stage, &turn, &tier.owner, context, applied).await?;
    report.turn = Some(turn);
    if is_done {
        let wanted: Vec<Desired> = phases.rest.into_iter().chain(servers).collect();
        context.applier.remove_orphans(uid, namespace, &wanted, |_, _| false, applied).await?;
    }
    Ok(())
}

/// The wish, checked, and the certificates that it asks for, kept or new.
fn tier<'a>(
    storage: &'a CasStorage,
    world: &World,
    context: &Context,
) -> Result<std::result::Result<build::Tier<'a>, Trouble>> {
    let spec = &storage.spec;
    let valid = Access::of(storage)
        .and_then(|access| world.check(storage, access))
        .and_then(|access| Ok((access, world.mutual_tls(storage)?)));
    let (access, mutual_tls) = match valid {
        Ok(valid) => valid,
        Err(trouble) => return Ok(Err(trouble)),
    };
    let owner = Owner::new(storage, "CasStorage");
    let parts = match &mutual_tls {
        Some(wish) => wish.pairs(&owner, std::iter::once(SERVER), &world.owned, context.mint.now())?,
        None => None,
    };
    let mut secrets = access.tree().secrets.clone();
    secrets.extend(mutual_tls.iter().flat_map(MutualTls::server_files));
    let version = effective_version(spec.version.as_deref(), &world.owned, &context.images);
    Ok(Ok(build::Tier {
        owner,
        spec,
        image: context.images.of("grid-server", &version),
        revision: context.images.revision.clone(),
        version,
        secrets_hash: world.secrets_hash(access.tree()),
        access,
        mutual_tls,
        parts,
        secrets,
    }))
}

/// A hash of everything that replaces pods where it changes.
fn wish(tier: &build::Tier<'_>) -> String {
    let asked = CasStorageSpec { hibernate: false, paused: false, maintenance: None, ..tier.spec.clone() };
    content_hash(&json!([asked, tier.version, tier.secrets_hash]))
}
