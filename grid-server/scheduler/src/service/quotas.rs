//! What administrators ask of a [`Scheduler`]: quotas of instances in cohorts of bots.

use super::Scheduler;
use crate::SchedulerError;
use crate::engine;
use crate::quota::{Quota, Share};

impl Scheduler {
    /// Every quota and how it stands.
    ///
    /// # Errors
    /// The store's.
    pub async fn shares(&self) -> Result<Vec<Share>, SchedulerError> {
        let now = self.core.store.begin().await?.now();
        self.core.store.shares(now.before(self.core.options.eviction_cooldown)).await
    }

    /// Sets a quota; it holds from the next lease on, in every replica.
    ///
    /// # Errors
    /// [`SchedulerError::InvalidFields`] for a cohort that is not configured, or a minimum above the maximum; the
    /// store's.
    pub async fn put_quota(&self, quota: Quota) -> Result<(), SchedulerError> {
        let cohorts = &self.core.options.cohorts;
        if !cohorts.iter().any(|cohort| cohort.name == quota.cohort) {
            let known: Vec<&str> = cohorts.iter().map(|cohort| cohort.name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let problem = format!(
                "{:?} is no cohort of the scheduler's `cohort-set`; configured: {known}",
                quota.cohort
            );
            return Err(SchedulerError::InvalidFields(vec![("bot_cohort".to_owned(), problem)]));
        }
        let effects = engine::put_quota(self.core.store.as_ref(), &quota).await?;
        self.core.apply(effects);
        Ok(())
    }

    /// Removes a quota.
    ///
    /// # Errors
    /// [`SchedulerError::NotFound`]; the store's.
    pub async fn delete_quota(&self, cohort: &str, instance: &str) -> Result<(), SchedulerError> {
        let effects = engine::delete_quota(self.core.store.as_ref(), cohort, instance).await?;
        self.core.apply(effects);
        Ok(())
    }
}
