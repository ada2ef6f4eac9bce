//! [`QueueStore`] and [`QueueTx`]: what the scheduler asks of a database.
//!
//! Stores keep rows and locks; they decide nothing. Every decision is a function of [`crate::transition`] or
//! [`crate::session`], called by [`crate::engine`] on rows that a transaction holds. Each method takes a batch
//! and costs one round trip, whatever the batch's size.
//!
//! Locks are taken in one order: sessions, then jobs, then turns; within a kind by identifier.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use grid_core::Timestamp;

use crate::SchedulerError;
use crate::filter::ListQuery;
use crate::ids::{JobId, OperationId, SessionId};
use crate::job::Job;
use crate::operation::Operation;
use crate::properties::{Requirement, RequirementId};
use crate::session::Session;

/// What a store answers.
pub type StoreResult<T> = Result<T, SchedulerError>;

/// News of a change, from one replica to the others. It may be lost, late or doubled: it only saves waiting for
/// the next look at the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// These jobs changed.
    Jobs(Vec<JobId>),
    /// These operations were cancelled or deleted.
    Cancelled(Vec<OperationId>),
    /// Jobs with these requirements wait.
    Queue(Vec<RequirementId>),
    /// The lease lists or the owners of these sessions changed.
    Sessions(Vec<SessionId>),
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

/// Which rows a sweep looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// Executing since before this moment, for longer than the server allows.
    Executing(Timestamp),
    /// Executing for longer than the action's own limit and this grace.
    OwnTimeout(Duration),
    /// Queued since before this moment.
    Queued(Timestamp),
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

    /// The requirements of these identifiers; those that are absent are left out.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`].
    async fn requirements(&self, ids: &[RequirementId]) -> StoreResult<Vec<Requirement>>;

    /// Every session.
    ///
    /// # Errors
    /// [`SchedulerError::Unavailable`].
    async fn sessions(&self) -> StoreResult<Vec<Session>>;

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

    /// Locks the first queued jobs of each requirement, at most so many of each, in the queue's order (priority,
    /// turn, age), and leaves out those that another transaction holds.
    async fn lock_queued(&mut self, wants: &[(RequirementId, u32)]) -> StoreResult<Vec<Job>>;

    /// Locks jobs that are overdue, at most `limit`, and leaves out those that another transaction holds.
    async fn lock_overdue(&mut self, overdue: Overdue, limit: u32) -> StoreResult<Vec<Job>>;

    /// Writes the state of jobs that this transaction holds.
    async fn save_jobs(&mut self, jobs: &[Job]) -> StoreResult<()>;

    /// Removes completed jobs that ended before `before`, with their operations; returns how many.
    async fn prune(&mut self, before: Timestamp, limit: u32) -> StoreResult<u64>;

    /// Makes requirements known to every replica.
    async fn intern(&mut self, requirements: &[Requirement]) -> StoreResult<()>;

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
