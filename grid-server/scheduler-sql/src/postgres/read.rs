//! Reads of committed rows, outside any transaction.

use grid_core::Timestamp;
use grid_scheduler::SchedulerError;
use grid_scheduler::filter::ListQuery;
use grid_scheduler::ids::{JobId, OperationId};
use grid_scheduler::job::Job;
use grid_scheduler::operation::Operation;
use grid_scheduler::properties::{Requirement, RequirementId};
use grid_scheduler::session::Session;
use grid_scheduler::store::{Depth, StoreResult};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Row};
use uuid::Uuid;

use crate::error::map;
use crate::list;
use crate::rows::{self, JobRow, OperationRow};

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

pub(super) async fn sessions(pool: &PgPool) -> StoreResult<Vec<Session>> {
    let rows = sqlx::query_as("SELECT id, expires_at, body FROM sessions ORDER BY id")
        .fetch_all(pool)
        .await
        .map_err(map)?;
    rows.into_iter().map(rows::session).collect()
}
