//! [`Session`]: a bot's standing with the scheduler, and [`reconcile`], which settles what a bot says it holds
//! against what it was given.
//!
//! The jobs' rows alone say who holds a lease. A bot's list is news about those leases, never a claim to one.

use bytes::Bytes;
use grid_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::history::Usage;
use crate::ids::{JobId, ReplicaId, SessionId};
use crate::job::{Job, Stage, Streams};
use crate::properties::Properties;
use crate::transition::{self, Cause, RetryPolicy};

/// What a bot says of itself (RWAPI, `BotStatus`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BotStatus {
    /// It takes work.
    #[default]
    Ok,
    /// It finishes what it has, and takes no more until it is well.
    Unhealthy,
    /// Its host goes down: what it has is lost.
    HostRebooting,
    /// It finishes what it has and leaves.
    Terminating,
}

/// A bot's session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// The bot; one session a bot and pool.
    pub bot_id: String,
    /// The instance that the bot registered with; `*` serves all.
    pub instance: String,
    /// The pool of that instance.
    pub pool: String,
    /// What the bot has.
    pub properties: Properties,
    /// How many leases it takes at once.
    pub capacity: u32,
    /// Bots of higher priority are given work first.
    pub priority: i32,
    /// What it says of itself.
    pub status: BotStatus,
    /// The declared pool that it says it is of; empty where it names none.
    #[serde(default)]
    pub worker_pool: String,
    /// The node that it runs on; empty where it does not say.
    #[serde(default)]
    pub node: String,
    /// The version of its program; empty where it does not say.
    #[serde(default)]
    pub version_of_bot: String,
    /// It gets no more leases, and those that run are taken back then: it, its pool or its node drains.
    #[serde(default, with = "crate::job::micros_opt")]
    pub drain_until: Option<Timestamp>,
    /// Whether an answer told it so.
    #[serde(default)]
    pub drain_told: bool,
    /// When it was last heard of.
    #[serde(default, with = "crate::job::micros")]
    pub last_seen: Timestamp,
    /// Since when it has held no lease; `None` while it holds one.
    #[serde(default, with = "crate::job::micros_opt")]
    pub idle_since: Option<Timestamp>,
    /// How many of its calls the store has seen.
    #[serde(default)]
    pub calls: u64,
    /// Leases in a row that failed by its own fault.
    #[serde(default)]
    pub faults: u32,
    /// The replica that its calls arrive at, which alone gives it work.
    pub owner: ReplicaId,
    /// Counts changes of its lease list.
    pub version: u64,
    /// When it counts as lost unless it calls before.
    #[serde(skip)]
    pub expires_at: Timestamp,
}

/// What a bot says of one lease.
#[derive(Clone, Debug)]
pub struct ReportedLease {
    /// The job.
    pub job: JobId,
    /// Which of the job's leases.
    pub attempt: u32,
    /// How it goes.
    pub news: News,
    /// What it used, where it is over and the bot measured it.
    pub usage: Usage,
}

/// How a lease goes.
#[derive(Clone, Debug)]
pub enum News {
    /// It is being run; with the newest encoded `ExecutedActionMetadata`, where the bot sent one.
    Running(Option<Vec<u8>>),
    /// It is done: the encoded `ExecuteResponse`.
    Finished(Bytes),
    /// It came back without a result.
    Failed(Cause),
}

/// What [`reconcile`] decided about one session.
#[derive(Debug, Default)]
pub struct Settled {
    /// Jobs whose state changed, to be saved.
    pub changed: Vec<Job>,
    /// Jobs that the session holds now.
    pub held: Vec<Job>,
}

impl Session {
    /// Whether it may be given work.
    #[must_use]
    pub fn takes_work(&self) -> bool {
        self.status == BotStatus::Ok && self.drain_until.is_none()
    }
}

/// Settles a bot's report against the jobs that its session holds.
///
/// - News of leases that the session does not hold (taken over, cancelled, finished before) changes nothing.
/// - A lease that the bot was seen with and no longer lists is lost; one it was never seen with is sent again.
#[must_use]
pub fn reconcile(
    session: &Session,
    owned: Vec<Job>,
    reported: &[ReportedLease],
    policy: RetryPolicy,
    now: Timestamp,
) -> Settled {
    let mut settled = Settled::default();
    for mut job in owned.into_iter().filter(|job| transition::holds(job, session)) {
        let attempt = job.state.attempts;
        let own = reported.iter().find(|r| r.job == job.id && r.attempt == attempt);
        let news = own.map(|own| &own.news);
        let before = job.state.clone();
        match news {
            _ if session.status == BotStatus::HostRebooting && !matches!(news, Some(News::Finished(_))) => {
                transition::release(&mut job, Cause::Unavailable, policy, now);
            }
            Some(News::Finished(response)) => {
                let usage = own.map(|own| own.usage).unwrap_or_default();
                transition::finish(&mut job, response.clone(), usage, now);
            }
            Some(News::Failed(cause)) => transition::release(&mut job, *cause, policy, now),
            Some(News::Running(progress)) => acknowledge(&mut job, progress.as_deref()),
            None if job.state.lease.as_ref().is_some_and(|lease| lease.acknowledged) => {
                let leaving = session.status == BotStatus::Terminating;
                let cause = if leaving { Cause::GivenBack } else { Cause::WorkerLost };
                transition::release(&mut job, cause, policy, now);
            }
            None => {}
        }
        if job.state != before {
            settled.changed.push(job.clone());
        }
        if job.state.stage == Stage::Executing {
            settled.held.push(job);
        }
    }
    settled
}

fn acknowledge(job: &mut Job, progress: Option<&[u8]>) {
    if let Some(lease) = &mut job.state.lease {
        lease.acknowledged = true;
    }
    if let Some(progress) = progress {
        progress.clone_into(&mut job.state.progress);
    }
}

/// The names of the log streams of a lease are known: its job carries them while it runs.
pub fn attach_streams(job: &mut Job, streams: Streams) {
    if job.state.stage == Stage::Executing {
        job.state.streams = streams;
    }
}
