//! Jobs that no declared pool can ever run end, rather than wait for ever.

use std::time::Duration;

use grid_core::ErrorCode;

use super::Effects;
use crate::properties::RequirementId;
use crate::store::{Overdue, QueueStore, StoreResult};
use crate::transition;

/// Ends jobs with this requirement that have waited for `grace`, at most `limit`, with this text.
///
/// # Errors
/// The store's.
pub async fn refuse(
    store: &dyn QueueStore,
    requirement: RequirementId,
    grace: Duration,
    text: &str,
    limit: u32,
) -> StoreResult<Effects> {
    let mut tx = store.begin().await?;
    let now = tx.now();
    let mut effects = Effects::default();
    let mut jobs = tx.lock_overdue(Overdue::QueuedWith(requirement, now.before(grace)), limit).await?;
    if jobs.is_empty() {
        return Ok(effects);
    }
    for job in &mut jobs {
        transition::fail(job, ErrorCode::FailedPrecondition, text, now);
    }
    tx.save_jobs(&jobs).await?;
    jobs.into_iter().for_each(|job| effects.job(job));
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok(effects)
}
