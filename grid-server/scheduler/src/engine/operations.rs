//! Clients give up: an operation is cancelled, and its job with it when nobody else waits for it; or forgotten, and its job
//! goes on.

use std::collections::{BTreeSet, HashMap};

use grid_core::ErrorCode;

use super::Effects;
use crate::SchedulerError;
use crate::ids::{JobId, OperationId};
use crate::store::{QueueStore, QueueTx, StoreResult};
use crate::transition;

/// Cancels operations. A job ends when its last operation does; cancelling again, or too late, changes nothing.
/// The answers are in the batch's order.
///
/// # Errors
/// The store's; an operation that is absent has an error of its own.
pub async fn cancel(
    store: &dyn QueueStore,
    ids: &[OperationId],
) -> StoreResult<(Vec<Result<(), SchedulerError>>, Effects)> {
    let mut tx = store.begin().await?;
    let jobs: HashMap<OperationId, JobId> = tx.jobs_of(ids).await?.into_iter().collect();
    let effects = end_unwanted(tx.as_mut(), &jobs).await?;
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok((answers(ids, &jobs), effects))
}

/// Removes operations, and cancels none: their jobs go on to their ends (google.longrunning, `DeleteOperation`). The answers
/// are in the batch's order.
///
/// # Errors
/// The store's; an operation that is absent has an error of its own.
pub async fn delete(
    store: &dyn QueueStore,
    ids: &[OperationId],
) -> StoreResult<Vec<Result<(), SchedulerError>>> {
    let mut tx = store.begin().await?;
    let jobs: HashMap<OperationId, JobId> = tx.jobs_of(ids).await?.into_iter().collect();
    tx.delete_operations(ids).await?;
    tx.commit().await?;
    Ok(answers(ids, &jobs))
}

fn answers(ids: &[OperationId], known: &HashMap<OperationId, JobId>) -> Vec<Result<(), SchedulerError>> {
    let found = |id: &OperationId| known.get(id).map(|_| ()).ok_or(SchedulerError::OperationNotFound(*id));
    ids.iter().map(found).collect()
}

async fn end_unwanted(tx: &mut dyn QueueTx, cancelled: &HashMap<OperationId, JobId>) -> StoreResult<Effects> {
    let ids: Vec<JobId> = cancelled.values().copied().collect::<BTreeSet<_>>().into_iter().collect();
    // The job's lock comes first: who joins the job waits for it, and so is seen here or comes too late.
    let jobs = tx.lock_jobs(&ids).await?;
    tx.cancel_operations(&cancelled.keys().copied().collect::<Vec<_>>()).await?;
    let operations = tx.lock_operations(&ids).await?;
    let wanted: BTreeSet<JobId> = operations.iter().filter(|o| !o.cancelled).map(|o| o.job).collect();
    let (mut effects, mut ended) = (Effects::default(), Vec::new());
    effects.cancelled.extend(cancelled.keys());
    let now = tx.now();
    for mut job in jobs {
        let holder = job.session();
        let unwanted = !wanted.contains(&job.id);
        if unwanted && transition::fail(&mut job, ErrorCode::Cancelled, "cancelled by its client", now) {
            effects.sessions.extend(holder);
            ended.push(job.clone());
            effects.job(job);
        }
    }
    tx.save_jobs(&ended).await?;
    Ok(effects)
}
