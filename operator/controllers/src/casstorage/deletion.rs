//! A tier that grids use waits with its deletion until they let go of it, for an hour at most: after that the
//! deletion goes on, and the grids say what they miss. The finalizer is there only while a grid uses the tier.

use std::time::Duration;

use grid_operator_api::CasStorage;
use grid_operator_apply::{Observed, Wanted, merge, set_finalizer, write_status};
use k8s_openapi::jiff::Timestamp;

use super::observe::World;
use crate::context::Context;
use crate::error::Result;
use crate::outcome::Outcome;
use crate::workload::keeping;

/// The finalizer of a tier that is in use.
const IN_USE: &str = "grid.build/in-use";
/// How long a deletion waits.
const DEADLINE: Duration = Duration::from_secs(3_600);
/// How soon to look again whether claims that are to stay do.
const CLAIMS_AGAIN: Duration = Duration::from_secs(1);

/// Puts the finalizer on a tier that is used, and takes it from one that isn't.
pub(crate) async fn guard(storage: &CasStorage, world: &World, context: &Context) -> Result<()> {
    set_finalizer(&context.client, &context.leadership, storage, IN_USE, !world.used_by.is_empty()).await?;
    Ok(())
}

/// Lets the deletion go on, or says what it waits for.
pub(crate) async fn delete(
    storage: &CasStorage,
    world: &World,
    owned: &Observed,
    context: &Context,
) -> Result<Outcome> {
    let now = context.mint.now();
    let left = remaining(storage, now);
    if world.used_by.is_empty() || left.is_zero() {
        if keeping::is_guarded(storage) {
            let is_free = keeping::release(storage, storage.spec.deletion_policy, owned, context).await?;
            // Another finalizer goes over the version that this one left.
            return Ok(if is_free { Outcome::Retry } else { Outcome::After(CLAIMS_AGAIN) });
        }
        set_finalizer(&context.client, &context.leadership, storage, IN_USE, false).await?;
        return Ok(Outcome::AwaitChange);
    }
    let message = format!(
        "it is to be deleted, and {} still use it: point their spec.storageRef elsewhere or delete them; after an hour the deletion goes on all the same",
        world.used_by.join(", ")
    );
    let mut status = storage.status.clone().unwrap_or_default();
    let said =
        vec![Wanted::new("Ready", true, "InUse", &message), Wanted::new("Deleting", true, "InUse", &message)];
    status.conditions = merge(&status.conditions, said, storage.metadata.generation, now);
    status.used_by.clone_from(&world.used_by);
    status.observed_generation = storage.metadata.generation;
    let mut updated = storage.clone();
    updated.status = Some(status);
    write_status(&context.client, &context.leadership, storage, &updated).await?;
    Ok(Outcome::After(left))
}

fn remaining(storage: &CasStorage, now: Timestamp) -> Duration {
    let Some(since) = &storage.metadata.deletion_timestamp else { return DEADLINE };
    let waited = now.duration_since(since.0);
    DEADLINE.saturating_sub(Duration::try_from(waited).unwrap_or_default())
}
