//! The statements in an SQLite file: triggers keep the number of results, so that each call is one statement.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use grid_cas::StoreError;
use grid_cas::sql::{error, signed};
use grid_core::Timestamp;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqlitePool};

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
const EXPIRE: &str = "
DELETE FROM action_results WHERE salt = ?1 AND key IN (
    SELECT key FROM action_results WHERE salt = ?1 AND accessed < ?2 ORDER BY accessed LIMIT ?3)";
const TRIM: &str = "
DELETE FROM action_results WHERE salt = ?1 AND key IN (
    SELECT key FROM action_results WHERE salt = ?1 ORDER BY accessed LIMIT max(0, min(?3,
        (SELECT coalesce(sum(entries), 0) FROM action_result_totals WHERE salt = ?1) - ?2)))";

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

    async fn remove(&self, query: Query<'_, Sqlite, SqliteArguments>) -> Result<u64, StoreError> {
        let gone = query.execute(&self.pool).await.map_err(|source| self.error(&source))?;
        Ok(gone.rows_affected())
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

    async fn expire(&self, before: Timestamp, limit: u64) -> Result<u64, StoreError> {
        self.remove(sqlx::query(EXPIRE).bind(&self.salt).bind(before.0).bind(signed(limit))).await
    }

    /// One statement, and SQLite's writers take turns.
    async fn trim(&self, entries: u64, limit: u64) -> Result<u64, StoreError> {
        self.remove(sqlx::query(TRIM).bind(&self.salt).bind(signed(entries)).bind(signed(limit))).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let query = sqlx::query("SELECT 1 FROM action_result_totals LIMIT 1");
        query.fetch_optional(&self.pool).await.map(drop).map_err(|source| self.error(&source))
    }
}
