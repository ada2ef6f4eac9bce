//! The reconciler of CasStorage: observe → validate → build → apply → status, and a deletion that waits for the
//! grids that use it.

mod access;
mod build;
mod deletion;
mod observe;
mod status;

use std::time::Duration;

use grid_operator_api::CasStorage;
use grid_operator_apply::{Applied, write_status};

pub(crate) use access::Access;

use access::SERVER;

use crate::buildgrid::effective_version;
use crate::context::Context;
use crate::error::Result;
use crate::names::Owner;
use crate::outcome::Outcome;
use crate::telling;
use crate::trouble::Trouble;
use crate::workload::{ailing, growth};
use observe::World;
use status::Report;

/// How often Secrets, which no watch tells of, are looked at.
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
    if storage.metadata.deletion_timestamp.is_some() {
        return deletion::delete(storage, &world, context).await;
    }
    deletion::guard(storage, &world, context).await?;
    let result = Box::pin(bring_about(storage, &world, context, &mut report, &mut applied)).await;
    if let Err(error) = &result
        && !error.is_conflict()
    {
        report.trouble = Some(Trouble::from(error));
    }
    telling::changes(context, storage, &applied.changes).await;
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
        None => Outcome::After(if is_missing { LOOK_AGAIN } else { CHECK_AGAIN }),
    })
}

async fn bring_about(
    storage: &CasStorage,
    world: &World,
    context: &Context,
    report: &mut Report,
    applied: &mut Applied,
) -> Result<()> {
    if storage.spec.paused {
        return Ok(());
    }
    let access = match Access::of(storage).and_then(|access| world.check(storage, access)) {
        Ok(access) => access,
        Err(trouble) => {
            report.trouble = Some(trouble);
            return Ok(());
        }
    };
    let version = effective_version(storage.spec.version.as_deref(), &world.owned, &context.images);
    report.valid(&access, &version);
    let tier = build::Tier {
        owner: Owner::new(storage, "CasStorage"),
        spec: &storage.spec,
        image: context.images.of("grid-server", &version),
        version,
        access,
        secrets_hash: world.secrets_hash(),
    };
    let wanted = build::build(&tier).into_desired(&tier)?;
    let (uid, namespace) = (&tier.owner.uid, &tier.owner.namespace);
    if let Some(volume) = &tier.spec.volume
        && !growth::grow(context, &tier.owner, SERVER, &volume.size, applied).await?
    {
        return Ok(());
    }
    context.applier.apply(uid, namespace, &wanted, applied).await?;
    if status::is_settled(&tier, &applied.observed) {
        context.applier.remove_orphans(uid, namespace, &wanted, |_, _| false, applied).await?;
    }
    Ok(())
}
