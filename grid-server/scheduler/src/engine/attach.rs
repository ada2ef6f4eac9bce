//! The names of a lease's log streams become part of its job.

use super::Effects;
use crate::ids::{JobId, SessionId};
use crate::job::{Job, Streams};
use crate::session::attach_streams;
use crate::store::{QueueStore, StoreResult};

/// Attaches streams to leases that a session still holds and that have none; gives the jobs of these leases, with
/// the streams that they have now.
///
/// # Errors
/// The store's.
pub async fn attach(
    store: &dyn QueueStore,
    session: SessionId,
    leases: Vec<(JobId, u32, Streams)>,
) -> StoreResult<(Vec<Job>, Effects)> {
    let mut tx = store.begin().await?;
    let ids: Vec<JobId> = leases.iter().map(|(id, _, _)| *id).collect();
    let mut held = tx.lock_jobs(&ids).await?;
    held.retain(|job| job.session() == Some(session));
    let mut changed = Vec::new();
    for job in &mut held {
        let lease = leases.iter().find(|(id, attempt, _)| *id == job.id && *attempt == job.state.attempts);
        if let Some((_, _, streams)) = lease.filter(|_| job.state.streams == Streams::default()) {
            attach_streams(job, streams.clone());
            changed.push(job.clone());
        }
    }
    tx.save_jobs(&changed).await?;
    let mut effects = Effects::default();
    changed.into_iter().for_each(|job| effects.job(job));
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok((held, effects))
}
