//! What time does: sessions run out, jobs run or wait for too long, old jobs are forgotten.
//!
//! Every replica sweeps, in small transactions that leave out rows which another one holds.

use std::time::Duration;

use grid_core::ErrorCode;

use super::Effects;
use crate::ids::SessionId;
use crate::job::Job;
use crate::store::{Overdue, QueueStore, QueueTx, StoreResult};
use crate::transition::{self, Cause, RetryPolicy};

/// How long jobs may wait for a bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueTimeout {
    /// What messages call it; empty for nothing.
    pub name: String,
    /// At most so long.
    pub max_age: Duration,
    /// Where they were first asked for; none named means everywhere.
    pub instances: Vec<String>,
}

/// What is overdue.
#[derive(Clone, Debug)]
pub struct SweepRules {
    /// How long a job may run, whatever its own limit.
    pub max_execution: Duration,
    /// How long past its own limit a job may run: the worker ends it, this is for workers that don't.
    pub timeout_grace: Duration,
    /// How long a job may wait: the shortest that is for its instance.
    pub max_queued: Vec<QueueTimeout>,
    /// Whether a job that nobody watches ends.
    pub discard_unwatched: bool,
    /// How long completed jobs are kept.
    pub keep_completed: Option<Duration>,
    /// How long the history keeps leases that ended.
    pub keep_history: Duration,
    /// How many rows of each kind one sweep removes.
    pub prune_limit: u32,
    /// Rows a transaction.
    pub batch: u32,
    /// How often jobs are retried.
    pub retry: RetryPolicy,
}

/// Sweeps once. `more` of the answer says that there was more than one batch of something.
///
/// # Errors
/// The store's.
pub async fn sweep(store: &dyn QueueStore, rules: &SweepRules) -> StoreResult<(bool, Effects)> {
    let mut tx = store.begin().await?;
    let mut effects = Effects::default();
    let mut more = close_expired(tx.as_mut(), rules, &mut effects).await?;
    let now = tx.now();
    let limit = rules.max_execution.as_secs();
    let ends = [
        Some((
            Overdue::Executing(now.before(rules.max_execution)),
            ErrorCode::DeadlineExceeded,
            format!("execution did not finish within the server's limit of {limit} s"),
        )),
        Some((
            Overdue::OwnTimeout(rules.timeout_grace),
            ErrorCode::DeadlineExceeded,
            "execution did not finish within the action's own timeout".to_owned(),
        )),
        rules.discard_unwatched.then(|| {
            (
                Overdue::Unwatched(now),
                ErrorCode::Cancelled,
                "nobody watches the operation any more".to_owned(),
            )
        }),
    ];
    let given_up = rules.max_queued.iter().map(|queue| {
        let of =
            if queue.name.is_empty() { String::new() } else { format!(" (queue timeout `{}`)", queue.name) };
        let message = format!("no worker took the operation within {} s{of}", queue.max_age.as_secs());
        let overdue = Overdue::Queued(queue.instances.clone(), now.before(queue.max_age));
        (overdue, ErrorCode::Unavailable, message)
    });
    for (overdue, code, message) in ends.into_iter().flatten().chain(given_up) {
        let mut jobs = tx.lock_overdue(overdue, rules.batch).await?;
        more |= jobs.len() >= rules.batch as usize;
        for job in &mut jobs {
            effects.sessions.extend(job.session());
            transition::fail(job, code, message.clone(), now);
        }
        tx.save_jobs(&jobs).await?;
        jobs.into_iter().for_each(|job| effects.job(job));
    }
    if let Some(keep) = rules.keep_completed {
        more |= tx.prune(now.before(keep), rules.prune_limit).await? >= u64::from(rules.prune_limit);
    }
    more |= tx.prune_runs(now.before(rules.keep_history), rules.prune_limit).await?
        >= u64::from(rules.prune_limit);
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok((more, effects))
}

/// Forgets requirements that nobody asked for within `unused`, and the turns of flows that are over.
///
/// # Errors
/// The store's.
pub async fn forget(store: &dyn QueueStore, unused: Duration) -> StoreResult<()> {
    let mut tx = store.begin().await?;
    let since = tx.now().before(unused);
    tx.forget(since).await?;
    tx.commit().await
}

async fn close_expired(tx: &mut dyn QueueTx, rules: &SweepRules, effects: &mut Effects) -> StoreResult<bool> {
    let expired = tx.lock_expired(rules.batch).await?;
    if expired.is_empty() {
        return Ok(false);
    }
    let ids: Vec<SessionId> = expired.iter().map(|s| s.id).collect();
    let mut jobs: Vec<Job> = tx.lock_leased(&ids).await?;
    let now = tx.now();
    jobs.iter_mut().for_each(|job| transition::release(job, Cause::WorkerLost, rules.retry, now));
    tx.save_jobs(&jobs).await?;
    tx.delete_sessions(&ids).await?;
    effects.sessions.extend(ids.iter().copied());
    effects.fleet = true;
    jobs.into_iter().for_each(|job| effects.job(job));
    Ok(expired.len() >= rules.batch as usize)
}
