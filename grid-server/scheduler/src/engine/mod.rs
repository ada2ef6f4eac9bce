//! Each thing that can happen to the queue, as one transaction over a batch.
//!
//! A function here begins, locks, lets the pure functions decide, saves and commits, and nothing else: no call to
//! anything but the store, and no waiting. What it returns says whom to wake on this replica; the other replicas
//! are told by the store.

mod attach;
mod claim;
mod declare;
mod drain;
mod give_back;
mod note;
mod operations;
mod preempt;
mod quotas;
mod refuse;
mod register;
mod renew;
mod submit;
mod sweep;
mod sync;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use attach::attach;
pub use claim::{Claim, ClaimRules, Errand, claim};
pub use declare::{declare, wake};
pub use drain::{DrainOrder, drain, enforce, undrain};
pub use give_back::{Undelivered, give_back};
pub use note::note_waits;
pub use operations::{cancel, delete};
pub use preempt::{PreemptRules, preempt};
pub use quotas::{delete_quota, put_quota};
pub use refuse::refuse;
pub use register::{Registration, register};
pub use renew::renew;
pub use submit::{Submission, Submitted, submit};
pub use sweep::{QueueTimeout, SweepKind, SweepRules, Swept, forget, sweep};
pub use sync::{BotReport, Synced, sync};

use crate::ids::{OperationId, SessionId};
use crate::job::{Job, Stage};
use crate::properties::RequirementId;
use crate::store::{Event, QueueTx};

/// Whom a committed transaction concerns.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Jobs whose watchers see a change.
    pub jobs: Vec<Arc<Job>>,
    /// Operations that were cancelled or deleted.
    pub cancelled: Vec<OperationId>,
    /// Requirements with more waiting jobs than before.
    pub queued: BTreeSet<RequirementId>,
    /// Sessions whose lease lists shrank without their doing, or that drain or no longer do.
    pub sessions: BTreeSet<SessionId>,
    /// Whether pools, drains or the bots that are there changed.
    pub fleet: bool,
}

impl Effects {
    /// Takes note of a job that changed.
    fn job(&mut self, job: Job) {
        if job.state.stage == Stage::Queued {
            self.queued.insert(job.spec.requirement);
        }
        self.jobs.push(Arc::new(job));
    }

    /// Tells the other replicas, when the transaction commits.
    fn announce(&self, tx: &mut dyn QueueTx) {
        if !self.jobs.is_empty() {
            tx.notify(Event::Jobs(self.jobs.iter().map(|job| job.id).collect()));
        }
        if !self.cancelled.is_empty() {
            tx.notify(Event::Cancelled(self.cancelled.clone()));
        }
        if !self.queued.is_empty() {
            tx.notify(Event::Queue(self.queued.iter().copied().collect()));
        }
        if !self.sessions.is_empty() {
            tx.notify(Event::Sessions(self.sessions.iter().copied().collect()));
        }
        if self.fleet {
            tx.notify(Event::Fleet);
        }
    }
}
