//! Quotas are set and removed.

use super::Effects;
use crate::SchedulerError;
use crate::quota::Quota;
use crate::store::{QueueStore, StoreResult};

/// Sets a quota; what is held above it now runs on.
///
/// # Errors
/// [`SchedulerError::InvalidFields`] for a minimum above the maximum; the store's.
pub async fn put_quota(store: &dyn QueueStore, quota: &Quota) -> StoreResult<Effects> {
    if quota.min > quota.max {
        let problem = format!("is {}, more than max_quota, {}", quota.min, quota.max);
        return Err(SchedulerError::InvalidFields(vec![("min_quota".to_owned(), problem)]));
    }
    let mut tx = store.begin().await?;
    tx.save_quota(quota).await?;
    let effects = Effects { fleet: true, ..Effects::default() };
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok(effects)
}

/// Removes a quota.
///
/// # Errors
/// [`SchedulerError::NotFound`]; the store's.
pub async fn delete_quota(store: &dyn QueueStore, cohort: &str, instance: &str) -> StoreResult<Effects> {
    let mut tx = store.begin().await?;
    if !tx.delete_quota(cohort, instance).await? {
        return Err(SchedulerError::NotFound(format!("quota of instance {instance:?} in cohort {cohort:?}")));
    }
    let effects = Effects { fleet: true, ..Effects::default() };
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok(effects)
}
