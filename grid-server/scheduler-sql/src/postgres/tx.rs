//! One transaction on PostgreSQL: each method is one statement, over arrays.

use std::sync::Arc;

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
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::{fleet, history, listen, news, operations, overdue, queue, quotas, read, sessions, turns, waits};
use crate::error::map;
use crate::rows::{self, JobRow};

const LOCK_BY_ID: &str = "SELECT id, spec, action, state, NULL::bytea FROM jobs WHERE id = ANY($1) \
     ORDER BY id FOR UPDATE";
const LOCK_BY_KEY: &str = "SELECT id, spec, action, state, NULL::bytea FROM jobs WHERE merge_key = ANY($1) \
     ORDER BY id FOR UPDATE";
const LOCK_LEASED: &str = "SELECT id, spec, action, state, NULL::bytea FROM jobs \
     WHERE stage = 3 AND session = ANY($1) ORDER BY id FOR UPDATE";
const LOCK_LENT: &str = "SELECT id, spec, action, state, NULL::bytea FROM jobs WHERE stage = 3 \
     AND cohort <> '' AND cohort = $1 AND instance = ANY($2) AND requirement = $3 \
     ORDER BY priority DESC, queued_at DESC LIMIT $4 FOR UPDATE SKIP LOCKED";
const INSERT_JOBS: &str = "INSERT INTO jobs (id, merge_key, requirement, stage, priority, turn, queued_at, \
     session, started_at, deadline, completed_at, watched_until, label, action_digest, command, platform, spec, \
     action, state, response, instance) SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::smallint[], \
     $5::integer[], $6::bigint[], $7::bigint[], $8::uuid[], $9::bigint[], $10::bigint[], $11::bigint[], \
     $12::bigint[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::bytea[], $19::text[], \
     $20::bytea[], $21::text[]) ON CONFLICT DO NOTHING RETURNING id";
const SAVE_JOBS: &str = "UPDATE jobs SET merge_key = u.merge_key, stage = u.stage, priority = u.priority, \
     turn = u.turn, session = u.session, started_at = u.started_at, deadline = u.deadline, \
     completed_at = u.completed_at, watched_until = u.watched_until, state = u.state, response = u.response, \
     worker_pool = u.worker_pool, cohort = u.cohort FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::integer[], \
     $5::bigint[], $6::uuid[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::text[], $12::bytea[], \
     $13::text[], $14::text[]) AS u (id, merge_key, stage, priority, turn, session, started_at, deadline, \
     completed_at, watched_until, state, response, worker_pool, cohort) WHERE jobs.id = u.id";

/// A transaction.
pub(super) struct PostgresTx {
    tx: Transaction<'static, Postgres>,
    now: Timestamp,
    origin: Arc<str>,
    events: Vec<Event>,
}

impl PostgresTx {
    pub(super) async fn begin(pool: &PgPool, origin: Arc<str>) -> StoreResult<Self> {
        let mut tx = pool.begin().await.map_err(map)?;
        let (now,): (i64,) = sqlx::query_as(read::NOW).fetch_one(&mut *tx).await.map_err(map)?;
        Ok(Self { tx, now: Timestamp(now), origin, events: Vec::new() })
    }

    async fn lock<T>(&mut self, sql: &'static str, by: Vec<T>) -> StoreResult<Vec<Job>>
    where
        for<'q> Vec<T>: sqlx::Encode<'q, Postgres> + sqlx::Type<Postgres> + Send,
    {
        let rows: Vec<JobRow> = sqlx::query_as(sql).bind(by).fetch_all(&mut *self.tx).await.map_err(map)?;
        rows.into_iter().map(rows::job).collect()
    }

    async fn for_ids(&mut self, sql: &'static str, ids: Vec<Uuid>) -> StoreResult<()> {
        if ids.is_empty() {
            return Ok(());
        }
        sqlx::query(sql).bind(ids).execute(&mut *self.tx).await.map(|_| ()).map_err(map)
    }

    async fn send_news(&mut self) -> StoreResult<()> {
        let payloads: Vec<String> =
            self.events.iter().flat_map(|event| news::encode(&self.origin, event)).collect();
        if payloads.is_empty() {
            return Ok(());
        }
        sqlx::query("SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload")
            .bind(listen::CHANNEL)
            .bind(payloads)
            .execute(&mut *self.tx)
            .await
            .map(|_| ())
            .map_err(map)
    }
}

#[async_trait]
impl QueueTx for PostgresTx {
    fn now(&self) -> Timestamp {
        self.now
    }

    async fn insert_jobs(&mut self, jobs: &[Job]) -> StoreResult<Vec<JobId>> {
        let columns = jobs.iter().map(rows::columns).collect::<StoreResult<Vec<_>>>()?;
        let specs = jobs.iter().map(rows::spec_columns).collect::<StoreResult<Vec<_>>>()?;
        let inserted: Vec<(Uuid,)> = sqlx::query_as(INSERT_JOBS)
            .bind(columns.iter().map(|c| c.id).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.merge_key.clone()).collect::<Vec<_>>())
            .bind(jobs.iter().map(|j| j.spec.requirement.0).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.stage).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.priority).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.turn).collect::<Vec<_>>())
            .bind(jobs.iter().map(|j| j.state.queued_at.0).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.session).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.started_at).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.deadline).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.completed_at).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.watched_until).collect::<Vec<_>>())
            .bind(specs.iter().map(|s| s.label.as_str()).collect::<Vec<_>>())
            .bind(specs.iter().map(|s| s.action_digest.as_str()).collect::<Vec<_>>())
            .bind(specs.iter().map(|s| s.command.as_str()).collect::<Vec<_>>())
            .bind(specs.iter().map(|s| s.platform.as_str()).collect::<Vec<_>>())
            .bind(specs.iter().map(|s| s.spec.as_str()).collect::<Vec<_>>())
            .bind(jobs.iter().map(|j| j.action.as_ref()).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.state.as_str()).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.response.as_deref()).collect::<Vec<_>>())
            .bind(jobs.iter().map(|j| j.spec.instance.as_str()).collect::<Vec<_>>())
            .fetch_all(&mut *self.tx)
            .await
            .map_err(map)?;
        let inserted: std::collections::HashSet<Uuid> = inserted.into_iter().map(|(id,)| id).collect();
        Ok(jobs.iter().map(|j| j.id).filter(|id| !inserted.contains(&id.0)).collect())
    }

    async fn lock_merge_keys(&mut self, keys: &[String]) -> StoreResult<Vec<Job>> {
        self.lock(LOCK_BY_KEY, keys.to_vec()).await
    }

    async fn lock_jobs(&mut self, ids: &[JobId]) -> StoreResult<Vec<Job>> {
        self.lock(LOCK_BY_ID, ids.iter().map(|id| id.0).collect()).await
    }

    async fn lock_leased(&mut self, sessions: &[SessionId]) -> StoreResult<Vec<Job>> {
        self.lock(LOCK_LEASED, sessions.iter().map(|id| id.0).collect()).await
    }

    async fn lock_queued(&mut self, wants: &[Want], order: Order) -> StoreResult<Vec<Job>> {
        let mut jobs = queue::lock(&mut self.tx, wants, order).await?;
        order.sort(&mut jobs);
        Ok(jobs)
    }

    async fn lock_lent(
        &mut self,
        cohort: &str,
        instances: &[String],
        requirement: RequirementId,
        limit: u32,
    ) -> StoreResult<Vec<Job>> {
        let query = sqlx::query_as(LOCK_LENT).bind(cohort).bind(instances).bind(requirement.0);
        let rows: Vec<JobRow> = query.bind(i64::from(limit)).fetch_all(&mut *self.tx).await.map_err(map)?;
        rows.into_iter().map(rows::job).collect()
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
        overdue::lock(&mut self.tx, overdue, self.now, limit).await
    }

    async fn save_jobs(&mut self, jobs: &[Job]) -> StoreResult<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        let columns = jobs.iter().map(rows::columns).collect::<StoreResult<Vec<_>>>()?;
        sqlx::query(SAVE_JOBS)
            .bind(columns.iter().map(|c| c.id).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.merge_key.clone()).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.stage).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.priority).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.turn).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.session).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.started_at).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.deadline).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.completed_at).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.watched_until).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.state.as_str()).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.response.as_deref()).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.worker_pool.as_str()).collect::<Vec<_>>())
            .bind(columns.iter().map(|c| c.cohort.as_str()).collect::<Vec<_>>())
            .execute(&mut *self.tx)
            .await
            .map_err(map)?;
        history::save(&mut self.tx, jobs.iter().flat_map(|job| &job.ended)).await
    }

    async fn prune(&mut self, before: Timestamp, limit: u32) -> StoreResult<u64> {
        sqlx::query(
            "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE stage = 4 AND completed_at < $1 LIMIT $2 \
             FOR UPDATE SKIP LOCKED)",
        )
        .bind(before.0)
        .bind(i64::from(limit))
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
        // In one order everywhere, so that two replicas never wait for each other.
        let mut rows = std::collections::BTreeMap::new();
        for requirement in requirements {
            rows.insert(requirement.id().0, rows::encode(requirement)?);
        }
        sqlx::query(
            "INSERT INTO requirements (id, body, used_at) SELECT r.id, r.body, $3 FROM \
             unnest($1::uuid[], $2::text[]) AS r (id, body) ON CONFLICT (id) DO UPDATE SET used_at = $3",
        )
        .bind(rows.keys().copied().collect::<Vec<_>>())
        .bind(rows.values().map(String::as_str).collect::<Vec<_>>())
        .bind(self.now.0)
        .execute(&mut *self.tx)
        .await
        .map(|_| ())
        .map_err(map)
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
        let sql = "UPDATE operations SET cancelled = true WHERE id = ANY($1)";
        self.for_ids(sql, ids.iter().map(|id| id.0).collect()).await
    }

    async fn delete_operations(&mut self, ids: &[OperationId]) -> StoreResult<()> {
        self.for_ids("DELETE FROM operations WHERE id = ANY($1)", ids.iter().map(|id| id.0).collect()).await
    }

    async fn extend_watch(&mut self, jobs: &[JobId], until: Timestamp) -> StoreResult<()> {
        // In one order, as every other lock on jobs.
        sqlx::query(
            "UPDATE jobs SET watched_until = $2 FROM (SELECT id FROM jobs WHERE id = ANY($1) \
             AND stage IN (2, 3) AND watched_until < $2 ORDER BY id FOR UPDATE) held WHERE jobs.id = held.id",
        )
        .bind(jobs.iter().map(|id| id.0).collect::<Vec<_>>())
        .bind(until.0)
        .execute(&mut *self.tx)
        .await
        .map(|_| ())
        .map_err(map)
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

    async fn lock_fleet(&mut self) -> StoreResult<()> {
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('grid.fleet', 0))")
            .execute(&mut *self.tx)
            .await
            .map(|_| ())
            .map_err(map)
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
        sqlx::query(rows::quotas::forget_evictions_sql!("$1"))
            .bind(unused_since.0)
            .execute(&mut *self.tx)
            .await
            .map_err(map)?;
        sqlx::query(rows::FORGET_TURNS).execute(&mut *self.tx).await.map_err(map)?;
        sqlx::query(rows::forget_requirements_sql!("$1"))
            .bind(unused_since.0)
            .execute(&mut *self.tx)
            .await
            .map(|_| ())
            .map_err(map)
    }

    async fn delete_sessions(&mut self, ids: &[SessionId]) -> StoreResult<()> {
        self.for_ids("DELETE FROM sessions WHERE id = ANY($1)", ids.iter().map(|id| id.0).collect()).await
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

    async fn commit(mut self: Box<Self>) -> StoreResult<()> {
        self.send_news().await?;
        self.tx.commit().await.map_err(map)
    }
}
