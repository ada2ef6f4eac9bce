//! Leases that were given to a bot which went away before it could hear of them.

use super::Effects;
use crate::ids::{JobId, ReplicaId, SessionId};
use crate::job::Job;
use crate::store::{QueueStore, StoreResult};
use crate::transition::{self, Cause, RetryPolicy};

/// Leases that could not be delivered.
#[derive(Clone, Debug)]
pub struct Undelivered {
    /// The session that they were given to.
    pub session: SessionId,
    /// The calls of its bot that the store had seen when they were given.
    pub calls: u64,
    /// The jobs.
    pub jobs: Vec<JobId>,
}

/// Takes leases back, unless the bot has called since: then its answer carried them.
///
/// # Errors
/// The store's.
pub async fn give_back(
    store: &dyn QueueStore,
    replica: ReplicaId,
    undelivered: &Undelivered,
    policy: RetryPolicy,
) -> StoreResult<Effects> {
    let mut tx = store.begin().await?;
    let session = tx.lock_sessions(&[undelivered.session]).await?.pop();
    let silent = |s: &crate::session::Session| s.owner == replica && s.calls == undelivered.calls;
    let mut effects = Effects::default();
    let Some(session) = session.filter(silent) else {
        return Ok(effects);
    };
    let now = tx.now();
    let mut jobs = tx.lock_jobs(&undelivered.jobs).await?;
    jobs.retain(|job| transition::holds(job, &session));
    jobs.iter_mut().for_each(|job: &mut Job| transition::release(job, Cause::GivenBack, policy, now));
    tx.save_jobs(&jobs).await?;
    jobs.into_iter().for_each(|job| effects.job(job));
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok(effects)
}
