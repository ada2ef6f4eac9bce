//! Leases that ended.

use grid_core::Timestamp;
use grid_scheduler::history::Run;
use grid_scheduler::store::{RunQuery, StoreResult};
use sqlx::{PgConnection, PgPool};

use crate::error::map;
use crate::rows::history::{self as rows, RunRow};

pub(super) async fn runs(pool: &PgPool, query: &RunQuery) -> StoreResult<Vec<Run>> {
    let rows: Vec<RunRow> = sqlx::query_as(rows::runs_sql!("$1", "$2", "$3"))
        .bind(query.job.map(|job| job.0))
        .bind(query.since.map_or(i64::MIN, |since| since.0))
        .bind(i64::from(query.limit))
        .fetch_all(pool)
        .await
        .map_err(map)?;
    Ok(rows.into_iter().map(rows::run).collect())
}

pub(super) async fn save(
    connection: &mut PgConnection,
    runs: impl Iterator<Item = &Run> + Send,
) -> StoreResult<()> {
    let rows: Vec<RunRow> = runs.map(rows::run_row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO runs (job, attempt, instance, mnemonic, tool, bot, pool, priority, queued_at, started_at, \
         ended_at, ending, cpu, memory) SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], \
         $5::text[], $6::text[], $7::text[], $8::integer[], $9::bigint[], $10::bigint[], $11::bigint[], \
         $12::smallint[], $13::bigint[], $14::bigint[]) ON CONFLICT DO NOTHING",
    )
    .bind(rows.iter().map(|r| r.0).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.1).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.2.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.3.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.4.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.5.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.6.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.7).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.8).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.9).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.10).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.11).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.12).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.13).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map(|_| ())
    .map_err(map)
}

pub(super) async fn prune(connection: &mut PgConnection, before: Timestamp, limit: u32) -> StoreResult<u64> {
    let sql = "DELETE FROM runs WHERE (job, attempt) IN (SELECT job, attempt FROM runs WHERE ended_at < $1 \
               ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
    let query = sqlx::query(sql).bind(before.0).bind(i64::from(limit));
    Ok(query.execute(connection).await.map_err(map)?.rows_affected())
}
