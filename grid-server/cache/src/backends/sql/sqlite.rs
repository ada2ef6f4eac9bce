//! The statements in an SQLite file: triggers keep the number of results, so that each call is one statement.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use grid_cas::StoreError;
use grid_cas::sql::{error, signed, unsigned};
use grid_core::Timestamp;
use sqlx::SqlitePool;

use super::{Found, Rows, Times};

const GET: &str =
    "SELECT result, accessed FROM action_results WHERE salt = ?1 AND key = ?2 AND accessed >= ?3";
const TOUCH: &str = "
UPDATE action_results SET accessed = ?3 WHERE salt = ?1 AND key = ?2 AND accessed < ?3";
// A row that is there stays where `?5` says so and it was used since `?6`.
const PUT: &str = "
INSERT INTO action_results (salt, key, result, accessed) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (salt, key) DO UPDATE SET result = excluded.result, accessed = excluded.accessed
WHERE NOT ?5 OR accessed < ?6";
const DELETE: &str = "DELETE FROM action_results WHERE salt = ?1 AND key = ?2";
const COUNT: &str = "SELECT coalesce(sum(entries), 0) FROM action_result_totals WHERE salt = ?1";
const REMOVE: &str = "
DELETE FROM action_results WHERE salt = ?1 AND key IN (
    SELECT key FROM action_results WHERE salt = ?1 AND accessed < ?2 ORDER BY accessed LIMIT ?3)";

#[derive(Debug)]
pub(super) struct SqliteRows {
    pub(super) pool: SqlitePool,
    pub(super) name: Arc<str>,
    pub(super) salt: String,
}

impl SqliteRows {
    fn error(&self, source: &sqlx::Error) -> StoreError {
        error(&self.name, source)
    }
}

#[async_trait]
impl Rows for SqliteRows {
    async fn get(&self, key: &[u8], times: Times) -> Result<Option<Found>, StoreError> {
        let query = sqlx::query_as(GET).bind(&self.salt).bind(key).bind(times.expired.0);
        let row: Option<(Vec<u8>, i64)> =
            query.fetch_optional(&self.pool).await.map_err(|source| self.error(&source))?;
        Ok(row.map(|(result, accessed)| Found { result: Bytes::from(result), accessed: Timestamp(accessed) }))
    }

    async fn touch(&self, key: &[u8], times: Times) -> Result<(), StoreError> {
        let query = sqlx::query(TOUCH).bind(&self.salt).bind(key).bind(times.now.0);
        query.execute(&self.pool).await.map(drop).map_err(|source| self.error(&source))
    }

    async fn put(&self, key: &[u8], result: &[u8], keep: bool, times: Times) -> Result<bool, StoreError> {
        let query = sqlx::query(PUT)
            .bind(&self.salt)
            .bind(key)
            .bind(result)
            .bind(times.now.0)
            .bind(keep)
            .bind(times.expired.0);
        let put = query.execute(&self.pool).await.map_err(|source| self.error(&source))?;
        Ok(put.rows_affected() > 0)
    }

    async fn delete(&self, key: &[u8]) -> Result<(), StoreError> {
        let query = sqlx::query(DELETE).bind(&self.salt).bind(key);
        query.execute(&self.pool).await.map(drop).map_err(|source| self.error(&source))
    }

    async fn count(&self) -> Result<u64, StoreError> {
        let query = sqlx::query_scalar(COUNT).bind(&self.salt);
        let count: i64 = query.fetch_one(&self.pool).await.map_err(|source| self.error(&source))?;
        Ok(unsigned(count))
    }

    async fn remove(&self, before: Timestamp, limit: u64) -> Result<u64, StoreError> {
        let query = sqlx::query(REMOVE).bind(&self.salt).bind(before.0).bind(signed(limit));
        let gone = query.execute(&self.pool).await.map_err(|source| self.error(&source))?;
        Ok(gone.rows_affected())
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let query = sqlx::query("SELECT 1 FROM action_result_totals LIMIT 1");
        query.fetch_optional(&self.pool).await.map(drop).map_err(|source| self.error(&source))
    }
}
