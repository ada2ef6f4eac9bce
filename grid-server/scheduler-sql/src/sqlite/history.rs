//! Leases that ended.

use grid_core::Timestamp;
use grid_scheduler::history::Run;
use grid_scheduler::store::{RunQuery, StoreResult};
use sqlx::{SqliteConnection, SqlitePool};

use crate::error::map;
use crate::rows::history::{self as rows, RunRow};

pub(super) async fn runs(pool: &SqlitePool, query: &RunQuery) -> StoreResult<Vec<Run>> {
    let rows: Vec<RunRow> = sqlx::query_as(rows::runs_sql!("?1", "?2", "?3"))
        .bind(query.job.map(|job| job.0))
        .bind(query.since.map_or(i64::MIN, |since| since.0))
        .bind(query.limit)
        .fetch_all(pool)
        .await
        .map_err(map)?;
    Ok(rows.into_iter().map(rows::run).collect())
}

pub(super) async fn save(connection: &mut SqliteConnection, runs: &[Run]) -> StoreResult<()> {
    for run in runs {
        let row = rows::run_row(run);
        sqlx::query(
            "INSERT INTO runs (job, attempt, instance, mnemonic, tool, bot, pool, priority, queued_at, started_at, \
             ended_at, ending, cpu, memory) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(row.0)
        .bind(row.1)
        .bind(row.2)
        .bind(row.3)
        .bind(row.4)
        .bind(row.5)
        .bind(row.6)
        .bind(row.7)
        .bind(row.8)
        .bind(row.9)
        .bind(row.10)
        .bind(row.11)
        .bind(row.12)
        .bind(row.13)
        .execute(&mut *connection)
        .await
        .map_err(map)?;
    }
    Ok(())
}

pub(super) async fn prune(
    connection: &mut SqliteConnection,
    before: Timestamp,
    limit: u32,
) -> StoreResult<u64> {
    let sql = "DELETE FROM runs WHERE (job, attempt) IN \
               (SELECT job, attempt FROM runs WHERE ended_at < ? ORDER BY ended_at LIMIT ?)";
    let done = sqlx::query(sql).bind(before.0).bind(limit).execute(connection).await.map_err(map)?;
    Ok(done.rows_affected())
}
