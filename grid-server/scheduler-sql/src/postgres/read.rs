//! Reads of committed rows, outside any transaction.

use std::collections::HashMap;

use grid_core::Timestamp;
use grid_scheduler::SchedulerError;
use grid_scheduler::filter::ListQuery;
use grid_scheduler::fleet::FleetRows;
use grid_scheduler::ids::{JobId, OperationId};
use grid_scheduler::job::Job;
use grid_scheduler::operation::Operation;
use grid_scheduler::properties::{Requirement, RequirementId};
use grid_scheduler::store::{Depth, JobPage, Recent, StoreResult};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Row};
use uuid::Uuid;

use crate::error::map;
use crate::list;
use crate::rows::{self, JobRow, OperationRow};

/// The database's time, in microseconds.
pub(super) const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

pub(super) fn operation_row(row: &PgRow, at: usize) -> sqlx::Result<OperationRow> {
    rows::operation_at!(row, at)
}

pub(super) async fn jobs(pool: &PgPool, ids: &[JobId]) -> StoreResult<Vec<Job>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows: Vec<JobRow> =
        sqlx::query_as("SELECT id, spec, action, state, response FROM jobs WHERE id = ANY($1)")
            .bind(ids)
            .fetch_all(pool)
            .await
            .map_err(map)?;
    rows.into_iter().map(rows::job).collect()
}

pub(super) async fn operations(pool: &PgPool, ids: &[OperationId]) -> StoreResult<Vec<(Operation, Job)>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let sql = format!(
        "SELECT {}, j.id, j.spec, j.action, j.state, j.response FROM operations o JOIN jobs j ON j.id = o.job \
         WHERE o.id = ANY($1)",
        rows::OPERATION
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(ids).fetch_all(pool).await.map_err(map)?;
    rows.iter().map(pair).collect()
}

pub(super) async fn list(pool: &PgPool, query: &ListQuery) -> StoreResult<Vec<(Operation, Job)>> {
    let mut builder = list::query::<Postgres>(query, list::POSTGRES)?;
    let rows = builder.build().fetch_all(pool).await.map_err(map)?;
    rows.iter().map(pair).collect()
}

fn pair(row: &PgRow) -> StoreResult<(Operation, Job)> {
    let operation = operation_row(row, 0).map(rows::operation).map_err(map)?;
    let at = rows::OPERATION_WIDTH;
    let get = || -> sqlx::Result<JobRow> {
        let (id, spec, action) = (row.try_get(at)?, row.try_get(at + 1)?, row.try_get(at + 2)?);
        Ok((id, spec, action, row.try_get(at + 3)?, row.try_get(at + 4)?))
    };
    Ok((operation, rows::job(get().map_err(map)?)?))
}

pub(super) async fn queued(pool: &PgPool) -> StoreResult<Vec<RequirementId>> {
    // Jumps from one requirement to the next in the queue's index, past any number of jobs.
    let rows: Vec<(Uuid,)> = sqlx::query_as(
        "WITH RECURSIVE step (r) AS ( \
         (SELECT requirement FROM jobs WHERE stage = 2 ORDER BY requirement LIMIT 1) UNION ALL \
         SELECT (SELECT requirement FROM jobs WHERE stage = 2 AND requirement > step.r ORDER BY requirement \
         LIMIT 1) FROM step WHERE step.r IS NOT NULL) SELECT r FROM step WHERE r IS NOT NULL",
    )
    .fetch_all(pool)
    .await
    .map_err(map)?;
    Ok(rows.into_iter().map(|(id,)| RequirementId(id)).collect())
}

pub(super) async fn depths(pool: &PgPool) -> StoreResult<Vec<Depth>> {
    let rows: Vec<(Uuid, i64, i64, Option<i64>)> = sqlx::query_as(
        "SELECT requirement, count(*) FILTER (WHERE stage = 2), count(*) FILTER (WHERE stage = 3), \
         min(queued_at) FILTER (WHERE stage = 2) FROM jobs WHERE stage IN (2, 3) GROUP BY requirement",
    )
    .fetch_all(pool)
    .await
    .map_err(map)?;
    let depth = |(id, queued, executing, oldest): (Uuid, i64, i64, Option<i64>)| Depth {
        requirement: RequirementId(id),
        queued: u64::try_from(queued).unwrap_or(0),
        executing: u64::try_from(executing).unwrap_or(0),
        oldest: oldest.map(Timestamp),
    };
    Ok(rows.into_iter().map(depth).collect())
}

pub(super) async fn labelled(pool: &PgPool, label: &str, limit: u64) -> StoreResult<u64> {
    // The limit ends the count: a longer queue costs no more.
    let sql = "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE stage = 2 AND label = $1 LIMIT $2) waiting";
    let query = sqlx::query_as(sql).bind(rows::clean(label)).bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let (count,): (i64,) = query.fetch_one(pool).await.map_err(map)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

pub(super) async fn requirements(pool: &PgPool, ids: &[RequirementId]) -> StoreResult<Vec<Requirement>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows: Vec<(String,)> = sqlx::query_as("SELECT body FROM requirements WHERE id = ANY($1)")
        .bind(ids)
        .fetch_all(pool)
        .await
        .map_err(map)?;
    let decode = |(body,): (String,)| {
        serde_json::from_str(&body).map_err(|e| SchedulerError::Internal(format!("damaged requirement: {e}")))
    };
    rows.into_iter().map(decode).collect()
}

pub(super) async fn fleet(pool: &PgPool) -> StoreResult<FleetRows> {
    // One snapshot: a bot is never seen without the drain that it was marked by.
    let mut tx = pool.begin().await.map_err(map)?;
    sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .execute(&mut *tx)
        .await
        .map_err(map)?;
    let (now,): (i64,) = sqlx::query_as(NOW).fetch_one(&mut *tx).await.map_err(map)?;
    let sql = "SELECT owner, revision, declared_at, pools FROM pool_owners ORDER BY owner";
    let owners = sqlx::query_as(sql).fetch_all(&mut *tx).await.map_err(map)?;
    let sql = format!("SELECT {} FROM drains ORDER BY kind, target", rows::DRAIN);
    let drains = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *tx).await.map_err(map)?;
    let bots = sqlx::query_as(rows::BOTS).fetch_all(&mut *tx).await.map_err(map)?;
    let wakeups: Vec<(String, i64)> =
        sqlx::query_as("SELECT pool, generation FROM wakeups").fetch_all(&mut *tx).await.map_err(map)?;
    tx.commit().await.map_err(map)?;
    Ok(FleetRows {
        now: Timestamp(now),
        declarations: owners.into_iter().map(rows::declaration).collect::<StoreResult<_>>()?,
        drains: drains.into_iter().map(rows::drain).collect(),
        bots: bots.into_iter().map(rows::bot).collect::<StoreResult<_>>()?,
        wakeups: wakeups.into_iter().map(|(pool, n)| (pool, u64::try_from(n).unwrap_or(0))).collect(),
    })
}

pub(super) async fn recent(pool: &PgPool, since: Timestamp, limit: u32) -> StoreResult<Vec<Recent>> {
    let query = sqlx::query_as(rows::history::recent_sql!("$1", "$2")).bind(since.0).bind(i64::from(limit));
    let rows = query.fetch_all(pool).await.map_err(map)?;
    Ok(rows.into_iter().map(rows::history::recent).collect())
}

pub(super) async fn page(pool: &PgPool, page: &JobPage) -> StoreResult<Vec<(Job, Vec<Operation>)>> {
    let stages: Vec<i16> = page.stages.iter().map(|stage| stage.number()).collect();
    let (after, id) = page.after.map_or((i64::MIN, Uuid::nil()), |(at, id)| (at.0, id.0));
    let jobs: Vec<JobRow> = sqlx::query_as(
        "SELECT id, spec, action, state, NULL::bytea FROM jobs WHERE stage = ANY($1) AND queued_at <= $2 \
         AND (queued_at, id) > ($3, $4) ORDER BY queued_at, id LIMIT $5",
    )
    .bind(stages)
    .bind(page.until.map_or(i64::MAX, |until| until.0))
    .bind(after)
    .bind(id)
    .bind(i64::from(page.limit))
    .fetch_all(pool)
    .await
    .map_err(map)?;
    let jobs = jobs.into_iter().map(rows::job).collect::<StoreResult<Vec<_>>>()?;
    let sql = format!("SELECT {} FROM operations o WHERE o.job = ANY($1) ORDER BY o.id", rows::OPERATION);
    let ids: Vec<Uuid> = jobs.iter().map(|job| job.id.0).collect();
    let found = sqlx::query(AssertSqlSafe(sql)).bind(ids).fetch_all(pool).await.map_err(map)?;
    let mut operations: HashMap<JobId, Vec<Operation>> = HashMap::new();
    for row in &found {
        let operation = operation_row(row, 0).map(rows::operation).map_err(map)?;
        operations.entry(operation.job).or_default().push(operation);
    }
    let mut with = |job: Job| {
        let operations = operations.remove(&job.id).unwrap_or_default();
        (job, operations)
    };
    Ok(jobs.into_iter().map(&mut with).collect())
}

pub(super) async fn ahead(pool: &PgPool, job: &Job, requirements: &[RequirementId]) -> StoreResult<u64> {
    let (count,): (i64,) = sqlx::query_as(
        "SELECT count(*) FROM jobs WHERE stage = 2 AND requirement = ANY($1) \
         AND (priority, turn, queued_at, id) < ($2, $3, $4, $5)",
    )
    .bind(requirements.iter().map(|id| id.0).collect::<Vec<_>>())
    .bind(job.state.priority)
    .bind(job.state.turn)
    .bind(job.state.queued_at.0)
    .bind(job.id.0)
    .fetch_one(pool)
    .await
    .map_err(map)?;
    Ok(u64::try_from(count).unwrap_or(0))
}
