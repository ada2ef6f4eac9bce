//! One transaction on SQLite. Statements are prepared once a connection and run row by row: there is no network
//! between, and the commit at the end is what costs.

use async_trait::async_trait;
use grid_core::Timestamp;
use grid_scheduler::fleet::{Declaration, Drain, DrainTarget, Wait};
use grid_scheduler::ids::{JobId, OperationId, SessionId};
use grid_scheduler::job::Job;
use grid_scheduler::operation::Operation;
use grid_scheduler::properties::{Requirement, RequirementId};
use grid_scheduler::quota::{Quota, Share};
use grid_scheduler::session::Session;
use grid_scheduler::store::{Event, FlowKey, Order, Overdue, QueueTx, StoreResult, Want};
use sqlx::{Sqlite, Transaction};
use tokio::sync::{OwnedMutexGuard, broadcast};
use uuid::Uuid;

use super::{fleet, history, jobs, operations, quotas, sessions, turns, waits};
use crate::error::map;
use crate::rows::{self, JobRow};

const JOB: &str = "SELECT id, spec, action, state, NULL AS response FROM jobs WHERE";

/// A transaction, which holds the process's only right to write.
pub(super) struct SqliteTx {
    tx: Transaction<'static, Sqlite>,
    now: Timestamp,
    news: broadcast::Sender<(u64, Event)>,
    handle: u64,
    events: Vec<Event>,
    _turn: OwnedMutexGuard<()>,
}

impl SqliteTx {
    pub(super) fn new(
        tx: Transaction<'static, Sqlite>,
        turn: OwnedMutexGuard<()>,
        now: Timestamp,
        news: broadcast::Sender<(u64, Event)>,
        handle: u64,
    ) -> Self {
        Self { tx, now, news, handle, events: Vec::new(), _turn: turn }
    }

    /// Runs a statement once for each identifier.
    async fn for_each(&mut self, sql: &'static str, ids: impl Iterator<Item = Uuid>) -> StoreResult<u64> {
        let mut affected = 0;
        for id in ids {
            let done = sqlx::query(sql).bind(id).execute(&mut *self.tx).await.map_err(map)?;
            affected += done.rows_affected();
        }
        Ok(affected)
    }
}

/// The jobs of a statement that gives rows of [`JobRow`].
macro_rules! jobs {
    ($self:ident, $condition:literal $(, $bind:expr)*) => {{
        let sql = format!("{JOB} {}", $condition);
        let rows: Vec<JobRow> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql))$(.bind($bind))*.fetch_all(&mut *$self.tx).await.map_err(map)?;
        rows.into_iter().map(rows::job).collect::<StoreResult<Vec<Job>>>()
    }};
}

#[async_trait]
impl QueueTx for SqliteTx {
    fn now(&self) -> Timestamp {
        self.now
    }

    async fn insert_jobs(&mut self, jobs: &[Job]) -> StoreResult<Vec<JobId>> {
        let mut refused = Vec::new();
        for job in jobs {
            if !jobs::insert(&mut self.tx, job).await? {
                refused.push(job.id);
            }
        }
        Ok(refused)
    }

    async fn lock_merge_keys(&mut self, keys: &[String]) -> StoreResult<Vec<Job>> {
        let mut found = Vec::new();
        for key in keys {
            found.extend(jobs!(self, "merge_key = ?", key)?);
        }
        Ok(found)
    }

    async fn lock_jobs(&mut self, ids: &[JobId]) -> StoreResult<Vec<Job>> {
        let mut found = Vec::new();
        for id in ids {
            found.extend(jobs!(self, "id = ?", id.0)?);
        }
        Ok(found)
    }

    async fn lock_leased(&mut self, sessions: &[SessionId]) -> StoreResult<Vec<Job>> {
        let mut found = Vec::new();
        for session in sessions {
            found.extend(jobs!(self, "stage = 3 AND session = ?", session.0)?);
        }
        Ok(found)
    }

    async fn lock_queued(&mut self, wants: &[Want], order: Order) -> StoreResult<Vec<Job>> {
        let order_by = match order {
            Order::Turn => "priority, turn, queued_at, id",
            Order::Age => "queued_at, id",
        };
        let mut found = Vec::new();
        for want in wants {
            let only = want.only.as_ref().map(rows::encode).transpose()?;
            let except = rows::encode(&want.except)?;
            let mut sql = format!("{JOB} stage = 2 AND requirement = ?1");
            if only.is_some() {
                sql.push_str(" AND instance IN (SELECT value FROM json_each(?3))");
            }
            if !want.except.is_empty() {
                sql.push_str(" AND instance NOT IN (SELECT value FROM json_each(?4))");
            }
            sql.push_str(&format!(" ORDER BY {order_by} LIMIT ?2"));
            let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(want.requirement.0).bind(want.most);
            let rows: Vec<JobRow> =
                query.bind(only).bind(except).fetch_all(&mut *self.tx).await.map_err(map)?;
            for row in rows {
                found.push(rows::job(row)?);
            }
        }
        order.sort(&mut found);
        Ok(found)
    }

    async fn lock_lent(
        &mut self,
        cohort: &str,
        instances: &[String],
        requirement: RequirementId,
        limit: u32,
    ) -> StoreResult<Vec<Job>> {
        let instances = rows::encode(&instances)?;
        jobs!(
            self,
            "stage = 3 AND cohort <> '' AND cohort = ? AND instance IN (SELECT value FROM json_each(?)) \
             AND requirement = ? ORDER BY priority DESC, queued_at DESC LIMIT ?",
            cohort,
            instances,
            requirement.0,
            limit
        )
    }

    async fn lock_shares(&mut self, cohorts: &[String], evicted_since: Timestamp) -> StoreResult<Vec<Share>> {
        quotas::lock_shares(&mut self.tx, cohorts, evicted_since).await
    }

    async fn save_quota(&mut self, quota: &Quota) -> StoreResult<()> {
        quotas::save_quota(&mut self.tx, quota).await
    }

    async fn delete_quota(&mut self, cohort: &str, instance: &str) -> StoreResult<bool> {
        quotas::delete_quota(&mut self.tx, cohort, instance).await
    }

    async fn note_evictions(&mut self, evicted: &[(String, String)]) -> StoreResult<()> {
        quotas::note_evictions(&mut self.tx, self.now, evicted).await
    }

    async fn lock_overdue(&mut self, overdue: Overdue, limit: u32) -> StoreResult<Vec<Job>> {
        match overdue {
            Overdue::Executing(since) => jobs!(self, "stage = 3 AND started_at < ? LIMIT ?", since.0, limit),
            Overdue::OwnTimeout(grace) => {
                let before = self.now.before(grace);
                jobs!(self, "stage = 3 AND deadline IS NOT NULL AND deadline < ? LIMIT ?", before.0, limit)
            }
            Overdue::QueuedWith(requirement, since) => jobs!(
                self,
                "stage = 2 AND requirement = ? AND queued_at < ? LIMIT ?",
                requirement.0,
                since.0,
                limit
            ),
            Overdue::Queued(instances, since) if instances.is_empty() => {
                jobs!(self, "stage = 2 AND queued_at < ? LIMIT ?", since.0, limit)
            }
            Overdue::Queued(instances, since) => jobs!(
                self,
                "stage = 2 AND instance IN (SELECT value FROM json_each(?)) AND queued_at < ? LIMIT ?",
                rows::encode(&instances)?,
                since.0,
                limit
            ),
            Overdue::Unwatched(since) => {
                jobs!(self, "stage < 4 AND watched_until < ? LIMIT ?", since.0, limit)
            }
        }
    }

    async fn save_jobs(&mut self, jobs: &[Job]) -> StoreResult<()> {
        for job in jobs {
            jobs::save(&mut self.tx, job).await?;
            history::save(&mut self.tx, &job.ended).await?;
        }
        Ok(())
    }

    async fn prune(&mut self, before: Timestamp, limit: u32) -> StoreResult<u64> {
        sqlx::query(
            "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE stage = 4 AND completed_at < ? LIMIT ?)",
        )
        .bind(before.0)
        .bind(limit)
        .execute(&mut *self.tx)
        .await
        .map(|done| done.rows_affected())
        .map_err(map)
    }

    async fn prune_runs(&mut self, before: Timestamp, limit: u32) -> StoreResult<u64> {
        let waits = waits::prune(&mut self.tx, before, limit).await?;
        Ok(history::prune(&mut self.tx, before, limit).await?.max(waits))
    }

    async fn latest_waits(&mut self, since: Timestamp) -> StoreResult<Vec<Wait>> {
        waits::latest(&mut self.tx, since).await
    }

    async fn save_waits(&mut self, waits: &[Wait]) -> StoreResult<()> {
        waits::save(&mut self.tx, waits).await
    }

    async fn intern(&mut self, requirements: &[Requirement]) -> StoreResult<()> {
        for requirement in requirements {
            sqlx::query(
                "INSERT INTO requirements (id, body, used_at) VALUES (?, ?, ?) \
                 ON CONFLICT (id) DO UPDATE SET used_at = excluded.used_at",
            )
            .bind(requirement.id().0)
            .bind(rows::encode(requirement)?)
            .bind(self.now.0)
            .execute(&mut *self.tx)
            .await
            .map_err(map)?;
        }
        Ok(())
    }

    async fn insert_operations(&mut self, operations: &[Operation]) -> StoreResult<()> {
        operations::insert_operations(&mut self.tx, operations).await
    }

    async fn lock_operations(&mut self, jobs: &[JobId]) -> StoreResult<Vec<Operation>> {
        operations::lock_operations(&mut self.tx, jobs).await
    }

    async fn jobs_of(&mut self, operations: &[OperationId]) -> StoreResult<Vec<(OperationId, JobId)>> {
        operations::jobs_of(&mut self.tx, operations).await
    }

    async fn cancel_operations(&mut self, ids: &[OperationId]) -> StoreResult<()> {
        let sql = "UPDATE operations SET cancelled = 1 WHERE id = ?";
        self.for_each(sql, ids.iter().map(|id| id.0)).await.map(|_| ())
    }

    async fn delete_operations(&mut self, ids: &[OperationId]) -> StoreResult<()> {
        self.for_each("DELETE FROM operations WHERE id = ?", ids.iter().map(|id| id.0)).await.map(|_| ())
    }

    async fn extend_watch(&mut self, jobs: &[JobId], until: Timestamp) -> StoreResult<()> {
        for id in jobs {
            sqlx::query("UPDATE jobs SET watched_until = max(watched_until, ?) WHERE id = ? AND stage < 4")
                .bind(until.0)
                .bind(id.0)
                .execute(&mut *self.tx)
                .await
                .map_err(map)?;
        }
        Ok(())
    }

    async fn save_sessions(&mut self, sessions: &[Session]) -> StoreResult<()> {
        sessions::save_sessions(&mut self.tx, sessions).await
    }

    async fn lock_sessions(&mut self, ids: &[SessionId]) -> StoreResult<Vec<Session>> {
        sessions::lock_sessions(&mut self.tx, ids).await
    }

    async fn lock_bot(&mut self, pool: &str, bot_id: &str) -> StoreResult<Vec<Session>> {
        sessions::lock_bot(&mut self.tx, pool, bot_id).await
    }

    async fn lock_expired(&mut self, limit: u32) -> StoreResult<Vec<Session>> {
        sessions::lock_expired(&mut self.tx, self.now, limit).await
    }

    /// One writer at a time is all that it takes.
    async fn lock_fleet(&mut self) -> StoreResult<()> {
        Ok(())
    }

    async fn declarations(&mut self) -> StoreResult<Vec<Declaration>> {
        fleet::declarations(&mut self.tx).await
    }

    async fn save_declaration(&mut self, declaration: &Declaration) -> StoreResult<()> {
        fleet::save_declaration(&mut self.tx, declaration).await
    }

    async fn drains(&mut self) -> StoreResult<Vec<Drain>> {
        fleet::drains(&mut self.tx).await
    }

    async fn save_drains(&mut self, drains: &[Drain]) -> StoreResult<()> {
        fleet::save_drains(&mut self.tx, drains).await
    }

    async fn delete_drains(&mut self, targets: &[DrainTarget]) -> StoreResult<()> {
        fleet::delete_drains(&mut self.tx, targets).await
    }

    async fn lock_covered(&mut self, targets: &[DrainTarget]) -> StoreResult<Vec<Session>> {
        fleet::lock_covered(&mut self.tx, targets).await
    }

    async fn wake_pools(&mut self, pools: &[String]) -> StoreResult<()> {
        fleet::wake_pools(&mut self.tx, self.now, pools).await
    }

    async fn forget(&mut self, unused_since: Timestamp) -> StoreResult<()> {
        sqlx::query(rows::quotas::forget_evictions_sql!("?"))
            .bind(unused_since.0)
            .execute(&mut *self.tx)
            .await
            .map_err(map)?;
        sqlx::query(rows::FORGET_TURNS).execute(&mut *self.tx).await.map_err(map)?;
        sqlx::query(rows::forget_requirements_sql!("?"))
            .bind(unused_since.0)
            .execute(&mut *self.tx)
            .await
            .map(|_| ())
            .map_err(map)
    }

    async fn delete_sessions(&mut self, ids: &[SessionId]) -> StoreResult<()> {
        self.for_each("DELETE FROM sessions WHERE id = ?", ids.iter().map(|id| id.0)).await.map(|_| ())
    }

    async fn take_turns(&mut self, flows: &[(FlowKey, u32)], step: i64) -> StoreResult<Vec<i64>> {
        turns::take_turns(&mut self.tx, flows, step).await
    }

    async fn serve_turns(&mut self, clocks: &[(FlowKey, i64)]) -> StoreResult<()> {
        turns::serve_turns(&mut self.tx, clocks).await
    }

    fn notify(&mut self, event: Event) {
        self.events.push(event);
    }

    async fn commit(self: Box<Self>) -> StoreResult<()> {
        self.tx.commit().await.map_err(map)?;
        for event in self.events {
            // Nobody listens where there is one scheduler only.
            let _ = self.news.send((self.handle, event));
        }
        Ok(())
    }
}
