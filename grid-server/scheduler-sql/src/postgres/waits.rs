//! Why jobs waited.

use grid_core::Timestamp;
use grid_scheduler::fleet::waits::EVERY;
use grid_scheduler::fleet::{Wait, WaitQuery};
use grid_scheduler::store::StoreResult;
use sqlx::{PgConnection, PgPool};

use crate::error::map;
use crate::rows::waits::{self as rows, WaitRow};

pub(super) async fn waits(pool: &PgPool, query: &WaitQuery) -> StoreResult<Vec<Wait>> {
    let found: Vec<WaitRow> = sqlx::query_as(rows::waits_sql!("$1", "$2", "$3", "$4", "$5"))
        .bind(query.requirement.0)
        .bind(EVERY.0)
        .bind(query.since.0)
        .bind(query.until.0)
        .bind(i64::from(query.limit))
        .fetch_all(pool)
        .await
        .map_err(map)?;
    Ok(rows::waits(found))
}

pub(super) async fn latest(connection: &mut PgConnection, since: Timestamp) -> StoreResult<Vec<Wait>> {
    let sql = "SELECT requirement, since, until, reason, text FROM waits WHERE until >= $1";
    let found = sqlx::query_as(sql).bind(since.0).fetch_all(connection).await.map_err(map)?;
    Ok(rows::waits(found))
}

pub(super) async fn save(connection: &mut PgConnection, waits: &[Wait]) -> StoreResult<()> {
    let rows: Vec<WaitRow> = waits.iter().map(rows::wait_row).collect();
    sqlx::query(
        "INSERT INTO waits (requirement, since, until, reason, text) SELECT * FROM unnest($1::uuid[], \
         $2::bigint[], $3::bigint[], $4::smallint[], $5::text[]) ON CONFLICT (requirement, since, reason) \
         DO UPDATE SET until = excluded.until, text = excluded.text",
    )
    .bind(rows.iter().map(|row| row.0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.1).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.2).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.3).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.4.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map(|_| ())
    .map_err(map)
}

pub(super) async fn prune(connection: &mut PgConnection, before: Timestamp, limit: u32) -> StoreResult<u64> {
    let sql = "DELETE FROM waits WHERE (requirement, since, reason) IN (SELECT requirement, since, reason FROM waits \
               WHERE until < $1 ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED)";
    let query = sqlx::query(sql).bind(before.0).bind(i64::from(limit));
    Ok(query.execute(connection).await.map_err(map)?.rows_affected())
}
