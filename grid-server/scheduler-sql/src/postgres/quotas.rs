//! Quotas, what instances hold against them, and what was taken from them.

use grid_core::Timestamp;
use grid_scheduler::quota::{Quota, Share};
use grid_scheduler::store::StoreResult;
use sqlx::{PgConnection, PgPool};

use crate::error::map;
use crate::rows::quotas as rows;

pub(super) async fn shares(pool: &PgPool, evicted_since: Timestamp) -> StoreResult<Vec<Share>> {
    let query = sqlx::query_as(rows::shares_sql!("$1")).bind(evicted_since.0);
    let rows: Vec<rows::ShareRow> = query.fetch_all(pool).await.map_err(map)?;
    Ok(rows.into_iter().map(rows::share).collect())
}

/// Locked first and counted then: a statement sees nothing of what is committed while it waits for a lock.
pub(super) async fn lock_shares(
    tx: &mut PgConnection,
    cohorts: &[String],
    evicted_since: Timestamp,
) -> StoreResult<Vec<Share>> {
    let locked =
        sqlx::query("SELECT FROM quotas WHERE cohort = ANY($1) ORDER BY cohort, instance FOR UPDATE")
            .bind(cohorts)
            .execute(&mut *tx)
            .await
            .map_err(map)?;
    if locked.rows_affected() == 0 {
        return Ok(Vec::new());
    }
    let query = sqlx::query_as(rows::shares_sql!("$1", "WHERE q.cohort = ANY($2)"));
    let rows: Vec<rows::ShareRow> =
        query.bind(evicted_since.0).bind(cohorts).fetch_all(tx).await.map_err(map)?;
    Ok(rows.into_iter().map(rows::share).collect())
}

pub(super) async fn save_quota(tx: &mut PgConnection, quota: &Quota) -> StoreResult<()> {
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

pub(super) async fn delete_quota(tx: &mut PgConnection, cohort: &str, instance: &str) -> StoreResult<bool> {
    let query = sqlx::query(rows::DELETE_QUOTA).bind(cohort).bind(instance);
    Ok(query.execute(tx).await.map_err(map)?.rows_affected() > 0)
}

pub(super) async fn note_evictions(
    tx: &mut PgConnection,
    now: Timestamp,
    evicted: &[(String, String)],
) -> StoreResult<()> {
    sqlx::query(
        "INSERT INTO evictions (cohort, instance, evicted_at) \
         SELECT e.cohort, e.instance, $3 FROM unnest($1::text[], $2::text[]) AS e (cohort, instance)",
    )
    .bind(evicted.iter().map(|(cohort, _)| cohort.as_str()).collect::<Vec<_>>())
    .bind(evicted.iter().map(|(_, instance)| instance.as_str()).collect::<Vec<_>>())
    .bind(now.0)
    .execute(tx)
    .await
    .map(|_| ())
    .map_err(map)
}
