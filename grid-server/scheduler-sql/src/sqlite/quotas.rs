//! Quotas, what instances hold against them, and what was taken from them.

use grid_core::Timestamp;
use grid_scheduler::quota::{Quota, Share};
use grid_scheduler::store::StoreResult;
use sqlx::{SqliteConnection, SqlitePool};

use crate::error::map;
use crate::rows::quotas as rows;

pub(super) async fn shares(pool: &SqlitePool, evicted_since: Timestamp) -> StoreResult<Vec<Share>> {
    let query = sqlx::query_as(rows::shares_sql!("?")).bind(evicted_since.0);
    let rows: Vec<rows::ShareRow> = query.fetch_all(pool).await.map_err(map)?;
    Ok(rows.into_iter().map(rows::share).collect())
}

/// One writer at a time is all the lock that it takes.
pub(super) async fn lock_shares(
    tx: &mut SqliteConnection,
    cohorts: &[String],
    evicted_since: Timestamp,
) -> StoreResult<Vec<Share>> {
    let query = sqlx::query_as(rows::shares_sql!("?", "WHERE q.cohort IN (SELECT value FROM json_each(?))"));
    let cohorts = crate::rows::encode(&cohorts)?;
    let rows: Vec<rows::ShareRow> =
        query.bind(evicted_since.0).bind(cohorts).fetch_all(tx).await.map_err(map)?;
    Ok(rows.into_iter().map(rows::share).collect())
}

pub(super) async fn save_quota(tx: &mut SqliteConnection, quota: &Quota) -> StoreResult<()> {
    sqlx::query(rows::SAVE_QUOTA)
        .bind(&quota.cohort)
        .bind(&quota.instance)
        .bind(i64::from(quota.min))
        .bind(i64::from(quota.max))
        .execute(tx)
        .await
        .map(|_| ())
        .map_err(map)
}

pub(super) async fn delete_quota(
    tx: &mut SqliteConnection,
    cohort: &str,
    instance: &str,
) -> StoreResult<bool> {
    let query = sqlx::query(rows::DELETE_QUOTA).bind(cohort).bind(instance);
    Ok(query.execute(tx).await.map_err(map)?.rows_affected() > 0)
}

pub(super) async fn note_evictions(
    tx: &mut SqliteConnection,
    now: Timestamp,
    evicted: &[(String, String)],
) -> StoreResult<()> {
    for (cohort, instance) in evicted {
        sqlx::query("INSERT INTO evictions (cohort, instance, evicted_at) VALUES (?, ?, ?)")
            .bind(cohort)
            .bind(instance)
            .bind(now.0)
            .execute(&mut *tx)
            .await
            .map_err(map)?;
    }
    Ok(())
}
