//! A grid whose claims would go with it waits with its deletion until what it says of them last has taken effect.

use std::time::Duration;

use grid_operator_api::{BuildGrid, DeletionPolicy};
use grid_operator_apply::{Applied, Kind, Observed};
use k8s_openapi::api::apps::v1::StatefulSet;

use crate::context::Context;
use crate::error::Result;
use crate::names::Owner;
use crate::outcome::Outcome;
use crate::workload::keeping::{self, keep_claims};

/// How soon to look again whether claims that are to stay do.
const AGAIN: Duration = Duration::from_secs(1);

/// What becomes of the claim of the grid's own store. One that a CasStorage took the place of goes as was asked for when it was
/// the grid's own: then nothing is said of it any more.
pub(super) fn policy(grid: &BuildGrid) -> Option<DeletionPolicy> {
    let storage = grid.spec.storage.as_ref();
    grid.spec
        .storage_ref
        .is_none()
        .then(|| storage.map(|storage| storage.deletion_policy).unwrap_or_default())
}

/// Lets the deletion go on, once the claims stay that are to.
pub(super) async fn delete(grid: &BuildGrid, context: &Context) -> Result<Outcome> {
    if !keeping::is_guarded(grid) {
        return Ok(Outcome::AwaitChange);
    }
    let owner = Owner::new(grid, "BuildGrid");
    let kinds = [Kind::of::<StatefulSet>()];
    let owned = Observed::list(&context.client, &owner.namespace, &kinds, &owner.list_selector()).await?;
    let mut applied = Applied { observed: owned, ..Applied::default() };
    let policy = policy(grid).unwrap_or(DeletionPolicy::Delete);
    keep_claims(policy, &owner, context, &mut applied).await?;
    let is_free = keeping::release(grid, policy, &applied.observed, context).await?;
    Ok(if is_free { Outcome::AwaitChange } else { Outcome::After(AGAIN) })
}
