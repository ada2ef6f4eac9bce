//! What may happen to a job: each change of state is one function here, pure, and there is no other.
//!
//! Each takes the time from its caller. Stores call them on rows that they hold locked, so a function sees the
//! newest state and its word is final. None of them knows who is told of the change.

use bytes::Bytes;
use grid_core::{ErrorCode, Timestamp};

use crate::history::{Ending, Run, Usage};
use crate::job::{Job, JobState, Lease, Outcome, Stage, Streams};
use crate::session::Session;

/// Why a lease came back without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The worker vanished, or no longer knows the lease.
    WorkerLost,
    /// The worker met a defect of its own.
    Internal,
    /// Something the worker needs was away.
    Unavailable,
    /// The worker gave it back in good order (drain, shutdown): not a failure.
    GivenBack,
    /// It was taken for an instance that had fewer leases than it is due: not a failure.
    Preempted,
}

/// How many leases a job is given at most, failed and given back together: a bot that gives everything back must
/// not keep a job going round for ever.
pub const MAX_LEASES: u32 = 100;

/// How often a job may fail before it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, whatever the cause; at least 1.
    pub max_attempts: u32,
    /// How many workers one job may lose before it is held to be what kills them.
    pub max_workers_lost: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 5, max_workers_lost: 3 }
    }
}

impl JobState {
    /// A job that has just been accepted.
    #[must_use]
    pub fn queued(now: Timestamp, priority: i32, watched_until: Timestamp) -> Self {
        Self {
            stage: Stage::Queued,
            priority,
            turn: 0,
            attempts: 0,
            failures: crate::job::Failures::default(),
            lease: None,
            queued_at: now,
            started_at: None,
            completed_at: None,
            outcome: None,
            watched_until,
            progress: Vec::new(),
            streams: Streams::default(),
            worker_pool: String::new(),
        }
    }
}

/// Another operation asks for the same job: the more urgent priority counts.
///
/// Returns whether the row changed.
pub fn join(job: &mut Job, priority: i32, watched_until: Timestamp) -> bool {
    let state = &mut job.state;
    let sooner = state.stage == Stage::Queued && priority < state.priority;
    if sooner {
        state.priority = priority;
    }
    let longer = watched_until > state.watched_until;
    if longer {
        state.watched_until = watched_until;
    }
    sooner || longer
}

/// Gives a queued job to a session whose bot is in this cohort. Returns the lease, or `None` where the job is not
/// queued.
pub fn assign(job: &mut Job, session: &Session, cohort: &str, now: Timestamp) -> Option<Lease> {
    if job.state.stage != Stage::Queued {
        return None;
    }
    let attempt = job.state.attempts.saturating_add(1);
    let lease = Lease {
        session: session.id,
        bot_id: session.bot_id.clone(),
        attempt,
        acknowledged: false,
        cohort: cohort.to_owned(),
    };
    job.state.stage = Stage::Executing;
    job.state.attempts = attempt;
    job.state.started_at = Some(now);
    job.state.worker_pool.clone_from(&session.worker_pool);
    job.state.lease = Some(lease.clone());
    Some(lease)
}

/// Whether `session` holds the job's live lease. A lease that was taken over answers no, for ever.
#[must_use]
pub fn holds(job: &Job, session: &Session) -> bool {
    job.session() == Some(session.id)
}

/// The job ends with what a bot, or the action cache, answered. Does nothing to a job that is over.
pub fn finish(job: &mut Job, response: Bytes, usage: Usage, now: Timestamp) -> bool {
    note(job, Ending::Finished, usage, now);
    complete(job, Outcome::Finished { response }, now)
}

/// The job ends without having been run to its end. Does nothing to a job that is over.
pub fn fail(job: &mut Job, code: ErrorCode, message: impl Into<String>, now: Timestamp) -> bool {
    note(job, Ending::Stopped, Usage::default(), now);
    complete(job, Outcome::Failed { code, message: message.into() }, now)
}

/// The job's lease, where it has one, ends: the history is to have it, and who reads its output is to hear of it.
fn note(job: &mut Job, ending: Ending, usage: Usage, now: Timestamp) {
    let Some(lease) = job.state.lease.take() else { return };
    if job.state.streams != Streams::default() {
        job.closed.push(job.state.streams.clone());
    }
    let (spec, state) = (&job.spec, &job.state);
    job.ended.push(Run {
        job: job.id,
        attempt: lease.attempt,
        instance: spec.instance.clone(),
        mnemonic: spec.mnemonic.clone(),
        tool: spec.tool.clone(),
        bot: lease.bot_id,
        pool: state.worker_pool.clone(),
        priority: state.priority,
        queued_at: state.queued_at,
        started_at: state.started_at.unwrap_or(now),
        ended_at: now,
        ending,
        usage,
    });
}

fn complete(job: &mut Job, outcome: Outcome, now: Timestamp) -> bool {
    let state = &mut job.state;
    if state.stage == Stage::Completed {
        return false;
    }
    state.stage = Stage::Completed;
    state.lease = None;
    state.completed_at = Some(now);
    state.outcome = Some(outcome);
    true
}

/// The live lease comes back without a result: the job waits again, or is stopped where its limits are reached.
///
/// Its place in the queue is that of its first day, so a retried job goes ahead of younger ones.
pub fn release(job: &mut Job, cause: Cause, policy: RetryPolicy, now: Timestamp) {
    if job.state.stage != Stage::Executing {
        return;
    }
    let ending = match cause {
        Cause::WorkerLost => Ending::WorkerLost,
        Cause::Internal => Ending::Internal,
        Cause::Unavailable => Ending::Unavailable,
        Cause::GivenBack => Ending::GivenBack,
        Cause::Preempted => Ending::Preempted,
    };
    note(job, ending, Usage::default(), now);
    let failures = &mut job.state.failures;
    match cause {
        Cause::WorkerLost => failures.worker_lost += 1,
        Cause::Internal => failures.internal += 1,
        Cause::Unavailable => failures.unavailable += 1,
        Cause::GivenBack | Cause::Preempted => {}
    }
    let failures = job.state.failures;
    let failed = failures.worker_lost + failures.internal + failures.unavailable;
    if failures.worker_lost >= policy.max_workers_lost {
        let lost = failures.worker_lost;
        let message = format!(
            "stopped after {lost} workers were lost while they ran it: the action may use up a worker's memory \
             or disk; run it with smaller needs or on larger workers"
        );
        fail(job, ErrorCode::Aborted, message, now);
    } else if failed >= policy.max_attempts || job.state.attempts >= MAX_LEASES {
        let message = format!(
            "stopped after {} leases: {} workers lost, {} internal failures, {} times something was unavailable",
            job.state.attempts, failures.worker_lost, failures.internal, failures.unavailable
        );
        fail(job, ErrorCode::Aborted, message, now);
    } else {
        job.state.stage = Stage::Queued;
        job.state.lease = None;
        job.state.started_at = None;
        job.state.progress.clear();
        job.state.streams = Streams::default();
    }
}
