//! One transaction on PostgreSQL: each method is one statement, over arrays.

use std::sync::Arc;

use async_trait::async_trait;
use grid_core::Timestamp;
use grid_scheduler::SchedulerError;
use grid_scheduler::fleet::{Declaration, Drain, DrainTarget};
use grid_scheduler::ids::{JobId, OperationId, SessionId};
use grid_scheduler::job::Job;
use grid_scheduler::operation::Operation;
use grid_scheduler::properties::{Requirement, RequirementId};
use grid_scheduler::session::Session;
use grid_scheduler::store::{Event, FlowKey, Overdue, QueueTx, StoreResult};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::{history, listen, news, read};
use crate::error::map;
use crate::rows::{self, JobRow};

const LOCK_BY_ID: &str = "SELECT id, spec, action, state, NULL::bytea FROM jobs WHERE id = ANY($1) \
     ORDER BY id FOR UPDATE";
const LOCK_BY_KEY: &str = "SELECT id, spec, action, state, NULL::bytea FROM jobs WHERE merge_key = ANY($1) \
     ORDER BY id FOR UPDATE";
const LOCK_LEASED: &str = "SELECT id, spec, action, state, NULL::bytea FROM jobs \
     WHERE stage = 3 AND session = ANY($1) ORDER BY id FOR UPDATE";
const LOCK_QUEUED: &str = "SELECT j.id, j.spec, j.action, j.state, NULL::bytea \
     FROM unnest($1::uuid[], $2::bigint[]) AS w (requirement, most) CROSS JOIN LATERAL \
     (SELECT id, spec, action, state FROM jobs WHERE stage = 2 AND requirement = w.requirement \
     ORDER BY priority, turn, queued_at, id LIMIT w.most FOR UPDATE SKIP LOCKED) j";
const INSERT_JOBS: &str = "INSERT INTO jobs (id, merge_key, requirement, stage, priority, turn, queued_at, \
     session, started_at, deadline, completed_at, watched_until, label, action_digest, command, platform, spec, \
     action, state, response) SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::smallint[], \
     $5::integer[], $6::bigint[], $7::bigint[], $8::uuid[], $9::bigint[], $10::bigint[], $11::bigint[], \
     $12::bigint[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::bytea[], $19::text[], \
     $20::bytea[]) ON CONFLICT DO NOTHING RETURNING id";
const SAVE_JOBS: &str = "UPDATE jobs SET merge_key = u.merge_key, stage = u.stage, priority = u.priority, \
     turn = u.turn, session = u.session, started_at = u.started_at, deadline = u.deadline, \
     completed_at = u.completed_at, watched_until = u.watched_until, state = u.state, response = u.response, \
     worker_pool = u.worker_pool FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::integer[], \
     $5::bigint[], $6::uuid[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::text[], $12::bytea[], \
     $13::text[]) AS u (id, merge_key, stage, priority, turn, session, started_at, deadline, completed_at, \
     watched_until, state, response, worker_pool) WHERE jobs.id = u.id";
const INSERT_OPERATIONS: &str = "INSERT INTO operations (id, job, instance, cancelled, created_at, tool_name, \
     tool_version, action_id, invocation_id, correlated_invocations_id, action_mnemonic, target_id, \
     configuration_id, client_workflow, client_actor, client_subject) SELECT * FROM unnest($1::uuid[], \
     $2::uuid[], $3::text[], $4::boolean[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[], \
     $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[]) \
     ON CONFLICT DO NOTHING";
const TAKE_TURNS: &str = "INSERT INTO turns AS t (pool, priority, flow, turn, taken) \
     SELECT f.pool, f.priority, f.flow, f.taken + coalesce((SELECT c.turn FROM turns c \
     WHERE c.pool = f.pool AND c.priority = f.priority AND c.flow = ''), 0), f.taken \
     FROM unnest($1::text[], $2::integer[], $3::text[], $4::bigint[]) AS f (pool, priority, flow, taken) \
     ON CONFLICT (pool, priority, flow) DO UPDATE SET taken = excluded.taken, \
     turn = greatest(t.turn, excluded.turn - excluded.taken) + excluded.taken \
     RETURNING pool, priority, flow, turn";
const SERVE_TURNS: &str = "INSERT INTO turns AS t (pool, priority, flow, turn, taken) \
     SELECT f.pool, f.priority, '', f.turn, 0 \
     FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS f (pool, priority, turn) \
     ON CONFLICT (pool, priority, flow) DO UPDATE SET turn = greatest(t.turn, excluded.turn)";

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

    async fn overdue(&mut self, condition: &str, before: Timestamp, limit: u32) -> StoreResult<Vec<Job>> {
        let sql = format!(
            "SELECT id, spec, action, state, NULL::bytea FROM jobs WHERE {condition} < $1 LIMIT $2 \
             FOR UPDATE SKIP LOCKED"
        );
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(before.0).bind(i64::from(limit));
        let rows: Vec<JobRow> = query.fetch_all(&mut *self.tx).await.map_err(map)?;
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

    async fn lock_queued(&mut self, wants: &[(RequirementId, u32)]) -> StoreResult<Vec<Job>> {
        let rows: Vec<JobRow> = sqlx::query_as(LOCK_QUEUED)
            .bind(wants.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
            .bind(wants.iter().map(|(_, most)| i64::from(*most)).collect::<Vec<_>>())
            .fetch_all(&mut *self.tx)
            .await
            .map_err(map)?;
        let mut jobs = rows.into_iter().map(rows::job).collect::<StoreResult<Vec<_>>>()?;
        jobs.sort_by_key(|job| (job.state.priority, job.state.turn, job.state.queued_at, job.id));
        Ok(jobs)
    }

    async fn lock_overdue(&mut self, overdue: Overdue, limit: u32) -> StoreResult<Vec<Job>> {
        match overdue {
            Overdue::Executing(since) => self.overdue("stage = 3 AND started_at", since, limit).await,
            Overdue::OwnTimeout(grace) => {
                let before = self.now.before(grace);
                self.overdue("stage = 3 AND deadline IS NOT NULL AND deadline", before, limit).await
            }
            Overdue::Queued(since) => self.overdue("stage = 2 AND queued_at", since, limit).await,
            Overdue::QueuedWith(requirement, since) => {
                // An identifier is digits and dashes.
                let condition = format!("stage = 2 AND requirement = '{}' AND queued_at", requirement.0);
                self.overdue(&condition, since, limit).await
            }
            Overdue::Unwatched(since) => {
                self.overdue("stage IN (2, 3) AND watched_until", since, limit).await
            }
        }
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
        history::prune(&mut self.tx, before, limit).await
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
        let texts = |get: fn(&Operation) -> &String| -> Vec<&str> {
            operations.iter().map(|o| get(o).as_str()).collect()
        };
        sqlx::query(INSERT_OPERATIONS)
            .bind(operations.iter().map(|o| o.id.0).collect::<Vec<_>>())
            .bind(operations.iter().map(|o| o.job.0).collect::<Vec<_>>())
            .bind(texts(|o| &o.instance))
            .bind(operations.iter().map(|o| o.cancelled).collect::<Vec<_>>())
            .bind(operations.iter().map(|o| o.created_at.0).collect::<Vec<_>>())
            .bind(texts(|o| &o.metadata.tool_name))
            .bind(texts(|o| &o.metadata.tool_version))
            .bind(texts(|o| &o.metadata.action_id))
            .bind(texts(|o| &o.metadata.invocation_id))
            .bind(texts(|o| &o.metadata.correlated_invocations_id))
            .bind(texts(|o| &o.metadata.action_mnemonic))
            .bind(texts(|o| &o.metadata.target_id))
            .bind(texts(|o| &o.metadata.configuration_id))
            .bind(texts(|o| &o.client.workflow))
            .bind(texts(|o| &o.client.actor))
            .bind(texts(|o| &o.client.subject))
            .execute(&mut *self.tx)
            .await
            .map(|_| ())
            .map_err(map)
    }

    async fn lock_operations(&mut self, jobs: &[JobId]) -> StoreResult<Vec<Operation>> {
        let sql = format!(
            "SELECT {} FROM operations o WHERE o.job = ANY($1) ORDER BY o.id FOR UPDATE",
            rows::OPERATION
        );
        let ids: Vec<Uuid> = jobs.iter().map(|id| id.0).collect();
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(ids).fetch_all(&mut *self.tx).await.map_err(map)?;
        rows.iter().map(|row| read::operation_row(row, 0).map(rows::operation).map_err(map)).collect()
    }

    async fn jobs_of(&mut self, operations: &[OperationId]) -> StoreResult<Vec<(OperationId, JobId)>> {
        let ids: Vec<Uuid> = operations.iter().map(|id| id.0).collect();
        let rows: Vec<(Uuid, Uuid)> = sqlx::query_as("SELECT id, job FROM operations WHERE id = ANY($1)")
            .bind(ids)
            .fetch_all(&mut *self.tx)
            .await
            .map_err(map)?;
        Ok(rows.into_iter().map(|(id, job)| (OperationId(id), JobId(job))).collect())
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
        if sessions.is_empty() {
            return Ok(());
        }
        let bodies = sessions.iter().map(rows::encode).collect::<StoreResult<Vec<_>>>()?;
        sqlx::query(
            "INSERT INTO sessions (id, pool, bot_id, expires_at, body, worker_pool, node) SELECT * FROM \
             unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[]) \
             ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at, body = excluded.body",
        )
        .bind(sessions.iter().map(|s| s.id.0).collect::<Vec<_>>())
        .bind(sessions.iter().map(|s| s.pool.as_str()).collect::<Vec<_>>())
        .bind(sessions.iter().map(|s| s.bot_id.as_str()).collect::<Vec<_>>())
        .bind(sessions.iter().map(|s| s.expires_at.0).collect::<Vec<_>>())
        .bind(bodies)
        .bind(sessions.iter().map(|s| s.worker_pool.as_str()).collect::<Vec<_>>())
        .bind(sessions.iter().map(|s| s.node.as_str()).collect::<Vec<_>>())
        .execute(&mut *self.tx)
        .await
        .map(|_| ())
        .map_err(map)
    }

    async fn lock_sessions(&mut self, ids: &[SessionId]) -> StoreResult<Vec<Session>> {
        let sql = "SELECT id, expires_at, body FROM sessions WHERE id = ANY($1) ORDER BY id FOR UPDATE";
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let rows = sqlx::query_as(sql).bind(ids).fetch_all(&mut *self.tx).await.map_err(map)?;
        rows.into_iter().map(rows::session).collect()
    }

    async fn lock_bot(&mut self, pool: &str, bot_id: &str) -> StoreResult<Vec<Session>> {
        // Two sessions of one bot at once: the second waits, and then finds the first.
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(format!("{pool}\n{bot_id}"))
            .execute(&mut *self.tx)
            .await
            .map_err(map)?;
        let sql = "SELECT id, expires_at, body FROM sessions WHERE pool = $1 AND bot_id = $2 ORDER BY id FOR UPDATE";
        let rows = sqlx::query_as(sql).bind(pool).bind(bot_id).fetch_all(&mut *self.tx).await.map_err(map)?;
        rows.into_iter().map(rows::session).collect()
    }

    async fn lock_expired(&mut self, limit: u32) -> StoreResult<Vec<Session>> {
        let sql = "SELECT id, expires_at, body FROM sessions WHERE expires_at < $1 LIMIT $2 \
                   FOR UPDATE SKIP LOCKED";
        let query = sqlx::query_as(sql).bind(self.now.0).bind(i64::from(limit));
        let rows = query.fetch_all(&mut *self.tx).await.map_err(map)?;
        rows.into_iter().map(rows::session).collect()
    }

    async fn lock_fleet(&mut self) -> StoreResult<()> {
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('grid.fleet', 0))")
            .execute(&mut *self.tx)
            .await
            .map(|_| ())
            .map_err(map)
    }

    async fn declarations(&mut self) -> StoreResult<Vec<Declaration>> {
        let sql = "SELECT owner, revision, declared_at, pools FROM pool_owners ORDER BY owner";
        let rows = sqlx::query_as(sql).fetch_all(&mut *self.tx).await.map_err(map)?;
        rows.into_iter().map(rows::declaration).collect()
    }

    async fn save_declaration(&mut self, declaration: &Declaration) -> StoreResult<()> {
        sqlx::query(
            "INSERT INTO pool_owners (owner, revision, declared_at, pools) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (owner) DO UPDATE SET revision = excluded.revision, \
             declared_at = excluded.declared_at, pools = excluded.pools",
        )
        .bind(&declaration.owner)
        .bind(i64::try_from(declaration.revision).unwrap_or(i64::MAX))
        .bind(declaration.declared_at.0)
        .bind(rows::encode(&declaration.pools)?)
        .execute(&mut *self.tx)
        .await
        .map(|_| ())
        .map_err(map)
    }

    async fn drains(&mut self) -> StoreResult<Vec<Drain>> {
        let sql = format!("SELECT {} FROM drains ORDER BY kind, target", rows::DRAIN);
        let rows = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *self.tx).await.map_err(map)?;
        Ok(rows.into_iter().map(rows::drain).collect())
    }

    async fn save_drains(&mut self, drains: &[Drain]) -> StoreResult<()> {
        for drain in drains {
            let (kind, target, reason, requested_at, deadline, returned) = rows::drain_row(drain)?;
            sqlx::query(
                "INSERT INTO drains (kind, target, reason, requested_at, deadline, returned) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (kind, target) DO UPDATE \
                 SET deadline = excluded.deadline, returned = excluded.returned",
            )
            .bind(kind)
            .bind(target)
            .bind(reason)
            .bind(requested_at)
            .bind(deadline)
            .bind(returned)
            .execute(&mut *self.tx)
            .await
            .map_err(map)?;
        }
        Ok(())
    }

    async fn delete_drains(&mut self, targets: &[DrainTarget]) -> StoreResult<()> {
        let (kinds, names): (Vec<i16>, Vec<String>) = targets.iter().map(rows::target).unzip();
        sqlx::query(
            "DELETE FROM drains USING unnest($1::smallint[], $2::text[]) AS t (kind, target) \
             WHERE drains.kind = t.kind AND drains.target = t.target",
        )
        .bind(kinds)
        .bind(names)
        .execute(&mut *self.tx)
        .await
        .map(|_| ())
        .map_err(map)
    }

    async fn lock_covered(&mut self, targets: &[DrainTarget]) -> StoreResult<Vec<Session>> {
        let [bots, pools, nodes] = rows::names(targets);
        let sql = "SELECT id, expires_at, body FROM sessions WHERE bot_id = ANY($1) OR worker_pool = ANY($2) \
                   OR node = ANY($3) ORDER BY id FOR UPDATE";
        let query = sqlx::query_as(sql).bind(bots).bind(pools).bind(nodes);
        let rows = query.fetch_all(&mut *self.tx).await.map_err(map)?;
        rows.into_iter().map(rows::session).collect()
    }

    async fn wake_pools(&mut self, pools: &[String]) -> StoreResult<()> {
        let mut pools = pools.to_vec();
        pools.sort();
        sqlx::query(
            "INSERT INTO wakeups AS w (pool, generation) SELECT p, $2 FROM unnest($1::text[]) AS p \
             ON CONFLICT (pool) DO UPDATE SET generation = greatest(w.generation, excluded.generation)",
        )
        .bind(pools)
        .bind(self.now.0)
        .execute(&mut *self.tx)
        .await
        .map(|_| ())
        .map_err(map)
    }

    async fn forget(&mut self, unused_since: Timestamp) -> StoreResult<()> {
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
        let taken = flows.iter().map(|(_, count)| step.saturating_mul(i64::from(*count)));
        let rows: Vec<(String, i32, String, i64)> = sqlx::query_as(TAKE_TURNS)
            .bind(flows.iter().map(|(key, _)| key.pool.as_str()).collect::<Vec<_>>())
            .bind(flows.iter().map(|(key, _)| key.priority).collect::<Vec<_>>())
            .bind(flows.iter().map(|(key, _)| key.flow.as_str()).collect::<Vec<_>>())
            .bind(taken.collect::<Vec<_>>())
            .fetch_all(&mut *self.tx)
            .await
            .map_err(map)?;
        let turn = |(key, _): &(FlowKey, u32)| {
            let row = rows.iter().find(|r| r.0 == key.pool && r.1 == key.priority && r.2 == key.flow);
            row.map(|r| r.3).ok_or_else(|| SchedulerError::Internal("a flow got no turn".into()))
        };
        flows.iter().map(turn).collect()
    }

    async fn serve_turns(&mut self, clocks: &[(FlowKey, i64)]) -> StoreResult<()> {
        sqlx::query(SERVE_TURNS)
            .bind(clocks.iter().map(|(key, _)| key.pool.as_str()).collect::<Vec<_>>())
            .bind(clocks.iter().map(|(key, _)| key.priority).collect::<Vec<_>>())
            .bind(clocks.iter().map(|(_, turn)| *turn).collect::<Vec<_>>())
            .execute(&mut *self.tx)
            .await
            .map(|_| ())
            .map_err(map)
    }

    fn notify(&mut self, event: Event) {
        self.events.push(event);
    }

    async fn commit(mut self: Box<Self>) -> StoreResult<()> {
        self.send_news().await?;
        self.tx.commit().await.map_err(map)
    }
}
