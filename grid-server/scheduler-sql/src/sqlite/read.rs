//! Reads of committed rows, outside the writer's queue.

use grid_core::Timestamp;
use grid_scheduler::SchedulerError;
use grid_scheduler::filter::ListQuery;
use grid_scheduler::fleet::FleetRows;
use grid_scheduler::ids::{JobId, OperationId};
use grid_scheduler::job::Job;
use grid_scheduler::operation::Operation;
use grid_scheduler::properties::{Requirement, RequirementId};
use grid_scheduler::store::{Depth, JobPage, Recent, StoreResult};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, QueryBuilder, Row, Sqlite, SqlitePool};
use uuid::Uuid;

use crate::error::map;
use crate::list;
use crate::rows::{self, JobRow, OperationRow};

/// SQLite takes 32,766 parameters a statement.
const CHUNK: usize = 10_000;

pub(super) fn operation_row(row: &SqliteRow, at: usize) -> sqlx::Result<OperationRow> {
    rows::operation_at!(row, at)
}

pub(super) async fn jobs(pool: &SqlitePool, ids: &[JobId]) -> StoreResult<Vec<Job>> {
    let mut found = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(CHUNK) {
        let mut query =
            QueryBuilder::<Sqlite>::new("SELECT id, spec, action, state, response FROM jobs WHERE id IN ");
        query.push_tuples_of(chunk.iter().map(|id| id.0));
        let rows: Vec<JobRow> = query.build_query_as().fetch_all(pool).await.map_err(map)?;
        for row in rows {
            found.push(rows::job(row)?);
        }
    }
    Ok(found)
}

pub(super) async fn operations(pool: &SqlitePool, ids: &[OperationId]) -> StoreResult<Vec<(Operation, Job)>> {
    let mut found = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(CHUNK) {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT ");
        query.push(rows::OPERATION);
        query.push(
            ", j.id, j.spec, j.action, j.state, j.response FROM operations o JOIN jobs j ON j.id = o.job \
             WHERE o.id IN ",
        );
        query.push_tuples_of(chunk.iter().map(|id| id.0));
        for row in query.build().fetch_all(pool).await.map_err(map)? {
            found.push(pair(&row)?);
        }
    }
    Ok(found)
}

pub(super) async fn list(pool: &SqlitePool, query: &ListQuery) -> StoreResult<Vec<(Operation, Job)>> {
    let mut builder = list::query::<Sqlite>(query, list::SQLITE)?;
    let rows = builder.build().fetch_all(pool).await.map_err(map)?;
    rows.iter().map(pair).collect()
}

fn pair(row: &SqliteRow) -> StoreResult<(Operation, Job)> {
    let operation = operation_row(row, 0).map(rows::operation).map_err(map)?;
    let at = rows::OPERATION_WIDTH;
    let get = || -> sqlx::Result<JobRow> {
        Ok((
            row.try_get(at)?,
            row.try_get(at + 1)?,
            row.try_get(at + 2)?,
            row.try_get(at + 3)?,
            row.try_get(at + 4)?,
        ))
    };
    Ok((operation, rows::job(get().map_err(map)?)?))
}

pub(super) async fn queued(pool: &SqlitePool) -> StoreResult<Vec<RequirementId>> {
    // Jumps from one requirement to the next in the queue's index, past any number of jobs.
    let rows: Vec<(Uuid,)> = sqlx::query_as(
        "WITH RECURSIVE step (r) AS (SELECT min(requirement) FROM jobs WHERE stage = 2 UNION ALL \
         SELECT (SELECT min(requirement) FROM jobs WHERE stage = 2 AND requirement > step.r) FROM step \
         WHERE step.r IS NOT NULL) SELECT r FROM step WHERE r IS NOT NULL",
    )
    .fetch_all(pool)
    .await
    .map_err(map)?;
    Ok(rows.into_iter().map(|(id,)| RequirementId(id)).collect())
}

pub(super) async fn depths(pool: &SqlitePool) -> StoreResult<Vec<Depth>> {
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

pub(super) async fn labelled(pool: &SqlitePool, label: &str, limit: u64) -> StoreResult<u64> {
    // The limit ends the count: a longer queue costs no more.
    let sql = "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE stage = 2 AND label = ? LIMIT ?) waiting";
    let query = sqlx::query_as(sql).bind(rows::clean(label)).bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let (count,): (i64,) = query.fetch_one(pool).await.map_err(map)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

pub(super) async fn requirements(pool: &SqlitePool, ids: &[RequirementId]) -> StoreResult<Vec<Requirement>> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT body FROM requirements WHERE id IN ");
    query.push_tuples_of(ids.iter().map(|id| id.0));
    let rows: Vec<(String,)> = query.build_query_as().fetch_all(pool).await.map_err(map)?;
    let decode = |(body,): (String,)| {
        serde_json::from_str(&body).map_err(|e| SchedulerError::Internal(format!("damaged requirement: {e}")))
    };
    rows.into_iter().map(decode).collect()
}

pub(super) async fn fleet(pool: &SqlitePool, now: Timestamp) -> StoreResult<FleetRows> {
    // One snapshot: a bot is never seen without the drain that it was marked by.
    let mut tx = pool.begin().await.map_err(map)?;
    let sql = "SELECT owner, revision, declared_at, pools FROM pool_owners ORDER BY owner";
    let owners = sqlx::query_as(sql).fetch_all(&mut *tx).await.map_err(map)?;
    let sql = format!("SELECT {} FROM drains ORDER BY kind, target", rows::DRAIN);
    let drains = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *tx).await.map_err(map)?;
    let bots = sqlx::query_as(rows::BOTS).fetch_all(&mut *tx).await.map_err(map)?;
    let wakeups: Vec<(String, i64)> =
        sqlx::query_as("SELECT pool, generation FROM wakeups").fetch_all(&mut *tx).await.map_err(map)?;
    tx.commit().await.map_err(map)?;
    Ok(FleetRows {
        now,
        declarations: owners.into_iter().map(rows::declaration).collect::<StoreResult<_>>()?,
        drains: drains.into_iter().map(rows::drain).collect(),
        bots: bots.into_iter().map(rows::bot).collect::<StoreResult<_>>()?,
        wakeups: wakeups.into_iter().map(|(pool, n)| (pool, u64::try_from(n).unwrap_or(0))).collect(),
    })
}

pub(super) async fn recent(pool: &SqlitePool, since: Timestamp, limit: u32) -> StoreResult<Vec<Recent>> {
    let query = sqlx::query_as(rows::history::recent_sql!("?1", "?2")).bind(since.0).bind(limit);
    let rows = query.fetch_all(pool).await.map_err(map)?;
    Ok(rows.into_iter().map(rows::history::recent).collect())
}

pub(super) async fn page(pool: &SqlitePool, page: &JobPage) -> StoreResult<Vec<(Job, Vec<Operation>)>> {
    let (after, id) = page.after.map_or((i64::MIN, Uuid::nil()), |(at, id)| (at.0, id.0));
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT id, spec, action, state, NULL AS response FROM jobs WHERE queued_at <= ",
    );
    query.push_bind(page.until.map_or(i64::MAX, |until| until.0));
    query.push(" AND (queued_at, id) > (").push_bind(after).push(", ").push_bind(id);
    query.push(") AND stage IN (");
    let mut stages = query.separated(", ");
    for stage in &page.stages {
        stages.push_bind(stage.number());
    }
    query.push(") ORDER BY queued_at, id LIMIT ").push_bind(page.limit);
    let jobs: Vec<JobRow> = query.build_query_as().fetch_all(pool).await.map_err(map)?;
    let sql = format!("SELECT {} FROM operations o WHERE o.job = ? ORDER BY o.id", rows::OPERATION);
    let mut found = Vec::with_capacity(jobs.len());
    for row in jobs {
        let job = rows::job(row)?;
        let query = sqlx::query(AssertSqlSafe(sql.as_str())).bind(job.id.0);
        let operations = query.fetch_all(pool).await.map_err(map)?;
        let operations = operations.iter().map(|row| operation_row(row, 0).map(rows::operation));
        found.push((job, operations.collect::<sqlx::Result<_>>().map_err(map)?));
    }
    Ok(found)
}

pub(super) async fn ahead(pool: &SqlitePool, job: &Job, requirements: &[RequirementId]) -> StoreResult<u64> {
    let mut count = 0;
    for requirement in requirements {
        let (ahead,): (i64,) = sqlx::query_as(
            "SELECT count(*) FROM jobs WHERE stage = 2 AND requirement = ? \
             AND (priority, turn, queued_at, id) < (?, ?, ?, ?)",
        )
        .bind(requirement.0)
        .bind(job.state.priority)
        .bind(job.state.turn)
        .bind(job.state.queued_at.0)
        .bind(job.id.0)
        .fetch_one(pool)
        .await
        .map_err(map)?;
        count += u64::try_from(ahead).unwrap_or(0);
    }
    Ok(count)
}

/// `IN (?, ?, …)`.
trait PushIds {
    fn push_tuples_of(&mut self, ids: impl Iterator<Item = Uuid>);
}

impl PushIds for QueryBuilder<Sqlite> {
    fn push_tuples_of(&mut self, ids: impl Iterator<Item = Uuid>) {
        self.push("(");
        let mut separated = self.separated(", ");
        for id in ids {
            separated.push_bind(id);
        }
        self.push(")");
    }
}
