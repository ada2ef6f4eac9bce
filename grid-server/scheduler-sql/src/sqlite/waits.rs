//! Why jobs waited.

use grid_core::Timestamp;
use grid_scheduler::fleet::waits::EVERY;
use grid_scheduler::fleet::{Wait, WaitQuery};
use grid_scheduler::store::StoreResult;
use sqlx::{SqliteConnection, SqlitePool};

use crate::error::map;
use crate::rows::waits::{self as rows, WaitRow};

pub(super) async fn waits(pool: &SqlitePool, query: &WaitQuery) -> StoreResult<Vec<Wait>> {
    let found: Vec<WaitRow> = sqlx::query_as(rows::waits_sql!("?1", "?2", "?3", "?4", "?5"))
        .bind(query.requirement.0)
        .bind(EVERY.0)
        .bind(query.since.0)
        .bind(query.until.0)
        .bind(query.limit)
        .fetch_all(pool)
        .await
        .map_err(map)?;
    Ok(rows::waits(found))
}

pub(super) async fn latest(connection: &mut SqliteConnection, since: Timestamp) -> StoreResult<Vec<Wait>> {
    let sql = "SELECT requirement, since, until, reason, text FROM waits WHERE until >= ?";
    let found = sqlx::query_as(sql).bind(since.0).fetch_all(connection).await.map_err(map)?;
    Ok(rows::waits(found))
}

pub(super) async fn save(connection: &mut SqliteConnection, waits: &[Wait]) -> StoreResult<()> {
    for row in waits.iter().map(rows::wait_row) {
        sqlx::query(
            "INSERT INTO waits (requirement, since, until, reason, text) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (requirement, since, reason) DO UPDATE SET until = excluded.until, text = excluded.text",
        )
        .bind(row.0)
        .bind(row.1)
        .bind(row.2)
        .bind(row.3)
        .bind(row.4)
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
    let sql = "DELETE FROM waits WHERE (requirement, since, reason) IN (SELECT requirement, since, reason FROM waits \
               WHERE until < ? ORDER BY until LIMIT ?)";
    let done = sqlx::query(sql).bind(before.0).bind(limit).execute(connection).await.map_err(map)?;
    Ok(done.rows_affected())
}
