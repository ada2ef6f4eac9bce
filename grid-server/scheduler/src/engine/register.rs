//! A bot opens a session; one that it had before is closed, and what it held there goes back to the queue.

use std::time::Duration;

use super::Effects;
use crate::fleet::drain::deadline;
use crate::ids::SessionId;
use crate::job::Job;
use crate::session::Session;
use crate::store::{QueueStore, StoreResult};
use crate::transition::{self, Cause, RetryPolicy};

/// A bot that wants a session.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The session to be; its end is set by the store's clock.
    pub session: Session,
    /// How long it lives without a call.
    pub lifetime: Duration,
}

/// Opens a session.
///
/// # Errors
/// The store's.
pub async fn register(
    store: &dyn QueueStore,
    registration: &Registration,
    policy: RetryPolicy,
) -> StoreResult<(Session, Effects)> {
    let mut tx = store.begin().await?;
    tx.lock_fleet().await?;
    let now = tx.now();
    let mut session = registration.session.clone();
    session.expires_at = now.after(registration.lifetime);
    session.last_seen = now;
    session.idle_since = Some(now);
    session.drain_until = deadline(&tx.drains().await?, &session);
    let earlier = tx.lock_bot(&session.pool, &session.bot_id).await?;
    let earlier: Vec<SessionId> = earlier.into_iter().map(|s| s.id).collect();
    let mut effects = Effects { fleet: true, ..Effects::default() };
    if !earlier.is_empty() {
        let mut jobs = tx.lock_leased(&earlier).await?;
        jobs.iter_mut().for_each(|job| transition::release(job, Cause::WorkerLost, policy, now));
        tx.save_jobs(&jobs).await?;
        tx.delete_sessions(&earlier).await?;
        effects.sessions.extend(earlier);
        jobs.into_iter().for_each(|job: Job| effects.job(job));
    }
    tx.save_sessions(std::slice::from_ref(&session)).await?;
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok((session, effects))
}
