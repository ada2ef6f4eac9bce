//! [`QueueStore`] and [`QueueTx`]: what the scheduler asks of a database.
//!
//! Stores keep rows and locks; they decide nothing. Every decision is a function of [`crate::transition`] or
//! [`crate::session`], called by [`crate::engine`] on rows that a transaction holds. Each method takes a batch
//! and costs one round trip, whatever the batch's size.
//!
//! Locks are taken in one order: the fleet, sessions, quotas, then jobs, then turns; within a kind by identifier.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use grid_core::Timestamp;

use crate::SchedulerError;
use crate::filter::ListQuery;
use crate::fleet::{Declaration, Drain, DrainTarget, FleetRows, Wait, WaitQuery};
use crate::history::Run;
use crate::ids::{JobId, OperationId, SessionId};
use crate::job::{Job, Stage};
use crate::metadata::{Summary, SummaryQuery, Values, ValuesQuery};
use crate::operation::Operation;
use crate::properties::{Requirement, RequirementId};
use crate::quota::{Quota, Share};
use crate::session::Session;

mod want;

pub use want::{Order, Want};

/// What a store answers.
pub type StoreResult<T> = Result<T, SchedulerError>;

/// News of a change, from one replica to the others. It may be lost, late or doubled: it only saves waiting for
/// the next look at the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// These jobs changed.
    Jobs(Vec<JobId>),
    /// These operations were cancelled.
    Cancelled(Vec<OperationId>),
    /// Jobs with these requirements wait.
    Queue(Vec<RequirementId>),
    /// The lease lists or the owners of these sessions changed.
    Sessions(Vec<SessionId>),
    /// Declared pools, drains or the bots changed.
    Fleet,
    /// News may have been lost: look at everything.
    Resync,
}

/// Whose turn: a flow within a pool and priority. The empty flow is the clock of that pool and priority.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// The pool of instances.
    pub pool: String,
    /// The priority.
    pub priority: i32,
    /// The invocation, or whatever takes turns.
    pub flow: String,
}

/// How many jobs wait with one requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// The requirement.
    pub requirement: RequirementId,
    /// Waiting jobs.
    pub queued: u64,
    /// Running jobs.
    pub executing: u64,
    /// When the one that waits longest was accepted.
    pub oldest: Option<Timestamp>,
}

/// A job that ran of late, as far as queue times and rates need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent {
    /// What it asked for.
    pub requirement: RequirementId,
    /// The declared pool that ran it.
    pub worker_pool: String,
    /// When it was accepted.
    pub queued_at: Timestamp,
    /// When its last lease was given.
    pub started_at: Timestamp,
    /// When it ended; `None` while it runs.
    pub completed_at: Option<Timestamp>,
}

impl Recent {
    /// How long it waited.
    #[must_use]
    pub fn queue_time(&self) -> Duration {
        self.started_at.since(self.queued_at)
    }
}

/// A page of jobs, in the order of their age.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobPage {
    /// Only these stages; each once.
    pub stages: Vec<Stage>,
    /// Only jobs accepted no later.
    pub until: Option<Timestamp>,
    /// Only jobs after this one.
    pub after: Option<(Timestamp, JobId)>,
    /// At most so many.
    pub limit: u32,
}

/// Which ended leases are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunQuery {
    /// Only of this job.
    pub job: Option<JobId>,
    /// Only those that ended later.
    pub since: Option<Timestamp>,
    /// At most so many.
    pub limit: u32,
}

/// Which rows a sweep looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// Executing since before this moment, for longer than the server allows.
    Executing(Timestamp),
    /// Executing for longer than the action's own limit and this grace.
    OwnTimeout(Duration),
    /// Queued since before this moment, and first asked for in one of these instances; none named means any.
    Queued(Vec<String>, Timestamp),
    /// Queued with this requirement since before this moment.
    QueuedWith(RequirementId, Timestamp),
    /// Incomplete, and unwatched since before this moment.
    Unwatched(Timestamp),
}

/// A database that holds the queue.
#[async_trait]
pub trait QueueStore: Debug + Send + Sync {
    /// Starts a transaction.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`].
    async fn begin(&self) -> StoreResult<Box<dyn QueueTx>>;

    /// Jobs with their responses, in no order; those that are absent are left out.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`], [`SchedulerError::Corrupt`].
    async fn jobs(&self, ids: &[JobId]) -> StoreResult<Vec<Job>>;

    /// Operations with their jobs, in no order; those that are absent are left out.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`], [`SchedulerError::Corrupt`].
    async fn operations(&self, ids: &[OperationId]) -> StoreResult<Vec<(Operation, Job)>>;

    /// A page of operations with their jobs, without responses, in the query's order.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`], [`SchedulerError::Corrupt`].
    async fn list(&self, query: &ListQuery) -> StoreResult<Vec<(Operation, Job)>>;

    /// The values that operations have in a field of what was told of them.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`].
    async fn metadata_values(&self, query: &ValuesQuery) -> StoreResult<Values>;

    /// What became of the operations that have a value in a field of what was told of them; two round trips.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`].
    async fn metadata_summary(&self, query: &SummaryQuery) -> StoreResult<Summary>;

    /// The requirements of jobs that wait.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`].
    async fn queued(&self) -> StoreResult<Vec<RequirementId>>;

    /// How many jobs wait and run, by requirement; requirements without either are left out.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`].
    async fn depths(&self) -> StoreResult<Vec<Depth>>;

    /// How many jobs with this label wait, counted up to `limit`.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`].
    async fn labelled(&self, label: &str, limit: u64) -> StoreResult<u64>;

    /// The requirements of these identifiers; those that are absent are left out.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`].
    async fn requirements(&self, ids: &[RequirementId]) -> StoreResult<Vec<Requirement>>;

    /// Declared pools, drains, and every session with the number of its leases.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`].
    async fn fleet(&self) -> StoreResult<FleetRows>;

    /// Jobs that ended after `since`, the newest first, and those that run, at most `limit` of each.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`].
    async fn recent(&self, since: Timestamp, limit: u32) -> StoreResult<Vec<Recent>>;

    /// A page of jobs without responses, oldest first, each with its operations.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`], [`SchedulerError::Corrupt`].
    async fn page(&self, page: &JobPage) -> StoreResult<Vec<(Job, Vec<Operation>)>>;

    /// Leases that ended, the newest first.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`].
    async fn runs(&self, query: &RunQuery) -> StoreResult<Vec<Run>>;

    /// Why jobs waited, the newest first.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`].
    async fn waits(&self, query: &WaitQuery) -> StoreResult<Vec<Wait>>;

    /// How many waiting jobs with these requirements come before a job that waits.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`].
    async fn ahead(&self, job: &Job, requirements: &[RequirementId]) -> StoreResult<u64>;

    /// Every quota, with the leases in use and those taken for others since then.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`].
    async fn shares(&self, evicted_since: Timestamp) -> StoreResult<Vec<Share>>;

    /// The news of other replicas, from now on and without end; after a reconnect it begins with
    /// [`Event::Resync`].
    fn events(&self) -> BoxStream<'static, Event>;

    /// Whether the database answers.
    ///
    /// # Errors
    /// What a call would have met.
    async fn probe(&self) -> StoreResult<()>;
}

/// A transaction. Dropping it undoes it.
#[async_trait]
pub trait QueueTx: Send {
    /// The database's time at the transaction's start.
    fn now(&self) -> Timestamp;

    /// Inserts jobs. Returns those that another job with the same merge key stands in the way of.
    async fn insert_jobs(&mut self, jobs: &[Job]) -> StoreResult<Vec<JobId>>;

    /// Locks the incomplete jobs that have these merge keys.
    async fn lock_merge_keys(&mut self, keys: &[String]) -> StoreResult<Vec<Job>>;

    /// Locks jobs; those that are absent are left out. Responses are not loaded.
    async fn lock_jobs(&mut self, ids: &[JobId]) -> StoreResult<Vec<Job>>;

    /// Locks the jobs whose leases these sessions hold.
    async fn lock_leased(&mut self, sessions: &[SessionId]) -> StoreResult<Vec<Job>>;

    /// Locks the first queued jobs of each want in this order, and leaves out those that another transaction holds.
    async fn lock_queued(&mut self, wants: &[Want], order: Order) -> StoreResult<Vec<Job>>;

    /// Locks jobs that bots of this cohort run, of these instances and with this requirement, those that lose least
    /// first: the least urgent, then the youngest. Leaves out those that another transaction holds.
    async fn lock_lent(
        &mut self,
        cohort: &str,
        instances: &[String],
        requirement: RequirementId,
        limit: u32,
    ) -> StoreResult<Vec<Job>>;

    /// Locks the quotas of these cohorts, so that their leases are counted and given by one transaction at a time; with
    /// the leases in use and those taken for others since then.
    async fn lock_shares(&mut self, cohorts: &[String], evicted_since: Timestamp) -> StoreResult<Vec<Share>>;

    /// Inserts or replaces a quota.
    async fn save_quota(&mut self, quota: &Quota) -> StoreResult<()>;

    /// Removes a quota; says whether it was there.
    async fn delete_quota(&mut self, cohort: &str, instance: &str) -> StoreResult<bool>;

    /// Notes leases that were taken now for others, by cohort and instance.
    async fn note_evictions(&mut self, evicted: &[(String, String)]) -> StoreResult<()>;

    /// Locks jobs that are overdue, at most `limit`, and leaves out those that another transaction holds.
    async fn lock_overdue(&mut self, overdue: Overdue, limit: u32) -> StoreResult<Vec<Job>>;

    /// Writes the state of jobs that this transaction holds, and their leases that ended.
    async fn save_jobs(&mut self, jobs: &[Job]) -> StoreResult<()>;

    /// Removes completed jobs that ended before `before`, with their operations; returns how many.
    async fn prune(&mut self, before: Timestamp, limit: u32) -> StoreResult<u64>;

    /// Why jobs waited, of spans that ended at `since` or later.
    async fn latest_waits(&mut self, since: Timestamp) -> StoreResult<Vec<Wait>>;

    /// Inserts spans, or moves their ends on: one is known by its requirement, reason and beginning.
    async fn save_waits(&mut self, waits: &[Wait]) -> StoreResult<()>;

    /// Removes leases and waits that ended before `before` from the history; returns how many of what there were more of.
    async fn prune_runs(&mut self, before: Timestamp, limit: u32) -> StoreResult<u64>;

    /// Makes requirements known to every replica, and notes that they are asked for now.
    async fn intern(&mut self, requirements: &[Requirement]) -> StoreResult<()>;

    /// Removes requirements that nobody asked for since then and that no job waits or runs with, the turns of flows
    /// that their clock has passed, and older evictions.
    async fn forget(&mut self, unused_since: Timestamp) -> StoreResult<()>;

    /// Inserts operations.
    async fn insert_operations(&mut self, operations: &[Operation]) -> StoreResult<()>;

    /// The operations of these jobs, locked.
    async fn lock_operations(&mut self, jobs: &[JobId]) -> StoreResult<Vec<Operation>>;

    /// Which jobs these operations wait for.
    async fn jobs_of(&mut self, operations: &[OperationId]) -> StoreResult<Vec<(OperationId, JobId)>>;

    /// Marks operations as cancelled.
    async fn cancel_operations(&mut self, ids: &[OperationId]) -> StoreResult<()>;

    /// Removes operations.
    async fn delete_operations(&mut self, ids: &[OperationId]) -> StoreResult<()>;

    /// Someone watches these jobs until then.
    async fn extend_watch(&mut self, jobs: &[JobId], until: Timestamp) -> StoreResult<()>;

    /// Inserts or replaces sessions.
    async fn save_sessions(&mut self, sessions: &[Session]) -> StoreResult<()>;

    /// Locks sessions; those that are absent are left out.
    async fn lock_sessions(&mut self, ids: &[SessionId]) -> StoreResult<Vec<Session>>;

    /// Locks the sessions of this bot in this pool.
    async fn lock_bot(&mut self, pool: &str, bot_id: &str) -> StoreResult<Vec<Session>>;

    /// Locks sessions that ran out, at most `limit`, and leaves out those that another transaction holds.
    async fn lock_expired(&mut self, limit: u32) -> StoreResult<Vec<Session>>;

    /// Has transactions that declare, drain or open sessions take turns; comes before every other lock.
    async fn lock_fleet(&mut self) -> StoreResult<()>;

    /// What each owner declared.
    async fn declarations(&mut self) -> StoreResult<Vec<Declaration>>;

    /// Inserts or replaces what an owner declared.
    async fn save_declaration(&mut self, declaration: &Declaration) -> StoreResult<()>;

    /// Drains that were not ended.
    async fn drains(&mut self) -> StoreResult<Vec<Drain>>;

    /// Inserts or replaces drains.
    async fn save_drains(&mut self, drains: &[Drain]) -> StoreResult<()>;

    /// Removes drains.
    async fn delete_drains(&mut self, targets: &[DrainTarget]) -> StoreResult<()>;

    /// Locks the sessions that these targets cover.
    async fn lock_covered(&mut self, targets: &[DrainTarget]) -> StoreResult<Vec<Session>>;

    /// Notes that a job came now while these pools had no free slot.
    async fn wake_pools(&mut self, pools: &[String]) -> StoreResult<()>;

    /// Removes sessions.
    async fn delete_sessions(&mut self, ids: &[SessionId]) -> StoreResult<()>;

    /// Takes so many turns for each flow: the last of them is returned, the others lie evenly before it.
    /// A flow that was away starts at its clock.
    async fn take_turns(&mut self, flows: &[(FlowKey, u32)], step: i64) -> StoreResult<Vec<i64>>;

    /// Moves clocks on to these turns; a clock never goes back.
    async fn serve_turns(&mut self, clocks: &[(FlowKey, i64)]) -> StoreResult<()>;

    /// News for the other replicas, sent when the transaction commits.
    fn notify(&mut self, event: Event);

    /// Makes all of it durable and seen at once.
    async fn commit(self: Box<Self>) -> StoreResult<()>;
}
