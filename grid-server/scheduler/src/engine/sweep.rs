//! What time does: sessions run out, jobs run or wait for too long, old jobs are forgotten.
//!
//! Every replica sweeps, in small transactions that leave out rows which another one holds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use grid_core::{ErrorCode, Timestamp};

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

/// What a sweep looks for that is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SweepKind {
    /// Completed jobs that are old enough.
    Prune,
    /// Jobs that waited for too long.
    QueueTimeout,
    /// Jobs that ran for too long.
    ExecutionTimeout,
}

/// What became of a sweep.
#[derive(Clone, Debug, Default)]
pub struct Swept {
    /// Whether there was more than one batch of something.
    pub more: bool,
    /// How many jobs of each kind there were that was looked for, and how long that took.
    pub found: BTreeMap<SweepKind, (u64, Duration)>,
}

impl Swept {
    fn add(&mut self, kind: SweepKind, jobs: u64, began: Instant) {
        let (found, took) = self.found.entry(kind).or_default();
        *found += jobs;
        *took += began.elapsed();
    }
}

/// Sweeps once.
///
/// # Errors
/// The store's.
pub async fn sweep(store: &dyn QueueStore, rules: &SweepRules) -> StoreResult<(Swept, Effects)> {
    let mut tx = store.begin().await?;
    let mut effects = Effects::default();
    let more = close_expired(tx.as_mut(), rules, &mut effects).await?;
    let mut swept = Swept { more, ..Swept::default() };
    let now = tx.now();
    for Late { overdue, code, message } in late(rules, now) {
        let (kind, began) = (kind(&overdue), Instant::now());
        let mut jobs = tx.lock_overdue(overdue, rules.batch).await?;
        swept.more |= jobs.len() >= rules.batch as usize;
        for job in &mut jobs {
            effects.sessions.extend(job.session());
            transition::fail(job, code, message.clone(), now);
        }
        tx.save_jobs(&jobs).await?;
        if let Some(kind) = kind {
            swept.add(kind, jobs.len() as u64, began);
        }
        jobs.into_iter().for_each(|job| effects.job(job));
    }
    if let Some(keep) = rules.keep_completed {
        let began = Instant::now();
        let pruned = tx.prune(now.before(keep), rules.prune_limit).await?;
        swept.more |= pruned >= u64::from(rules.prune_limit);
        swept.add(SweepKind::Prune, pruned, began);
    }
    swept.more |= tx.prune_runs(now.before(rules.keep_history), rules.prune_limit).await?
        >= u64::from(rules.prune_limit);
    effects.announce(tx.as_mut());
    tx.commit().await?;
    Ok((swept, effects))
}

/// Jobs that end for what time does.
struct Late {
    overdue: Overdue,
    code: ErrorCode,
    message: String,
}

const fn kind(overdue: &Overdue) -> Option<SweepKind> {
    match overdue {
        Overdue::Executing(_) | Overdue::OwnTimeout(_) => Some(SweepKind::ExecutionTimeout),
        Overdue::Queued(..) => Some(SweepKind::QueueTimeout),
        Overdue::Unwatched(_) | Overdue::QueuedWith(..) => None,
    }
}

/// What the rules look for.
fn late(rules: &SweepRules, now: Timestamp) -> impl Iterator<Item = Late> + use<'_> {
    let limit = rules.max_execution.as_secs();
    let ends = [
        Some(Late {
            overdue: Overdue::Executing(now.before(rules.max_execution)),
            code: ErrorCode::DeadlineExceeded,
            message: format!("execution did not finish within the server's limit of {limit} s"),
        }),
        Some(Late {
            overdue: Overdue::OwnTimeout(rules.timeout_grace),
            code: ErrorCode::DeadlineExceeded,
            message: "execution did not finish within the action's own timeout".to_owned(),
        }),
        rules.discard_unwatched.then(|| Late {
            overdue: Overdue::Unwatched(now),
            code: ErrorCode::Cancelled,
            message: "nobody watches the operation any more".to_owned(),
        }),
    ];
    let given_up = rules.max_queued.iter().map(move |queue| {
        let of =
            if queue.name.is_empty() { String::new() } else { format!(" (queue timeout `{}`)", queue.name) };
        let message = format!("no worker took the operation within {} s{of}", queue.max_age.as_secs());
        let overdue = Overdue::Queued(queue.instances.clone(), now.before(queue.max_age));
        Late { overdue, code: ErrorCode::Unavailable, message }
    });
    ends.into_iter().flatten().chain(given_up)
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
