//! An owner says which pools it has.

use std::collections::HashMap;

use super::Effects;
use crate::SchedulerError;
use crate::fleet::Declaration;
use crate::store::{QueueStore, StoreResult};

/// Replaces what an owner declared before; returns the revision in force.
///
/// # Errors
/// [`SchedulerError::InvalidFields`]; [`SchedulerError::Stale`] for an older revision, and for the stored one with
/// other pools; [`SchedulerError::Taken`] for a pool of another owner; the store's.
pub async fn declare(store: &dyn QueueStore, declaration: &Declaration) -> StoreResult<(u64, Effects)> {
    declaration.check()?;
    let mut tx = store.begin().await?;
    tx.lock_fleet().await?;
    let stored = tx.declarations().await?;
    let mut effects = Effects::default();
    if let Some(own) = stored.iter().find(|d| d.owner == declaration.owner) {
        if own.revision == declaration.revision && own.pools == declaration.pools {
            return Ok((own.revision, effects));
        }
        if own.revision >= declaration.revision {
            return Err(SchedulerError::Stale(format!(
                "revision {} of {:?} is not newer than the stored one, {}",
                declaration.revision, declaration.owner, own.revision
            )));
        }
    }
    let others = stored.iter().filter(|d| d.owner != declaration.owner);
    let taken: HashMap<&str, &str> =
        others.flat_map(|d| d.pools.iter().map(|pool| (pool.name.as_str(), d.owner.as_str()))).collect();
    for pool in &declaration.pools {
        if let Some(owner) = taken.get(pool.name.as_str()) {
            return Err(SchedulerError::Taken(format!("pool {:?} is declared by {owner:?}", pool.name)));
        }
    }
    let declaration = Declaration { declared_at: tx.now(), ..declaration.clone() };
    tx.save_declaration(&declaration).await?;
    effects.fleet = true;
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok((declaration.revision, effects))
}

/// Notes that jobs came while these pools had no free slot.
///
/// # Errors
/// The store's.
pub async fn wake(store: &dyn QueueStore, pools: &[String]) -> StoreResult<Effects> {
    let mut tx = store.begin().await?;
    tx.wake_pools(pools).await?;
    let effects = Effects { fleet: true, ..Effects::default() };
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok(effects)
}
