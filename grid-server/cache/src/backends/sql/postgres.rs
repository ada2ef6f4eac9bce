//! The statements on PostgreSQL: one round trip a call.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use grid_cas::StoreError;
use grid_cas::sql::{error, signed, unsigned};
use grid_core::Timestamp;
use rand::RngExt;
use sqlx::{PgExecutor, PgPool};

use super::{Found, Rows, Times};

/// In how many parts the number of results is kept.
const PARTS: i16 = 16;

const GET: &str =
    "SELECT result, accessed FROM action_results WHERE salt = $1 AND key = $2 AND accessed >= $3";
const TOUCH: &str = "
UPDATE action_results SET accessed = $3 WHERE salt = $1 AND key = $2 AND accessed < $3";
// A row that is there stays where `$5` says so and it was used since `$6`.
const PUT: &str = "
WITH put AS (
    INSERT INTO action_results AS r (salt, key, result, accessed) VALUES ($1, $2, $3, $4)
    ON CONFLICT (salt, key) DO UPDATE SET result = excluded.result, accessed = excluded.accessed
    WHERE NOT $5 OR r.accessed < $6
    RETURNING xmax = 0 AS fresh
),
counted AS (
    INSERT INTO action_result_totals AS t (salt, part, entries) SELECT $1, $7, 1 FROM put WHERE fresh
    ON CONFLICT (salt, part) DO UPDATE SET entries = t.entries + 1
)
SELECT count(*) FROM put";
const DELETE: &str = "
WITH gone AS (DELETE FROM action_results WHERE salt = $1 AND key = $2 RETURNING 1)
INSERT INTO action_result_totals AS t (salt, part, entries) SELECT $1, $3, -count(*) FROM gone HAVING count(*) > 0
ON CONFLICT (salt, part) DO UPDATE SET entries = t.entries + excluded.entries";
const COUNT: &str = "SELECT coalesce(sum(entries), 0)::bigint FROM action_result_totals WHERE salt = $1";
// Held until the transaction's end; statements after it see what its last holder removed.
const TURN: &str = "SELECT pg_try_advisory_xact_lock(hashtextextended('action_results ' || $1, 0))";
const REMOVE: &str = "
WITH oldest AS (
    SELECT key FROM action_results WHERE salt = $1 AND accessed < $2 ORDER BY accessed LIMIT $3
    FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM action_results r USING oldest WHERE r.salt = $1 AND r.key = oldest.key RETURNING 1
),
counted AS (
    INSERT INTO action_result_totals AS t (salt, part, entries)
    SELECT $1, $4, -count(*) FROM gone HAVING count(*) > 0
    ON CONFLICT (salt, part) DO UPDATE SET entries = t.entries + excluded.entries
)
SELECT count(*) FROM gone";

#[derive(Debug)]
pub(super) struct PostgresRows {
    pub(super) pool: PgPool,
    pub(super) name: Arc<str>,
    pub(super) salt: String,
}

impl PostgresRows {
    fn error(&self, source: &sqlx::Error) -> StoreError {
        error(&self.name, source)
    }
}

impl PostgresRows {
    async fn remove(
        &self,
        executor: impl PgExecutor<'_>,
        before: Timestamp,
        limit: u64,
    ) -> Result<u64, sqlx::Error> {
        let query = sqlx::query_scalar(REMOVE).bind(&self.salt).bind(before.0).bind(signed(limit));
        let gone: i64 = query.bind(part()).fetch_one(executor).await?;
        Ok(unsigned(gone))
    }

    async fn trimmed(&self, entries: u64, limit: u64) -> Result<u64, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        let ours: bool = sqlx::query_scalar(TURN).bind(&self.salt).fetch_one(&mut *transaction).await?;
        if !ours {
            return Ok(0);
        }
        let count: i64 = sqlx::query_scalar(COUNT).bind(&self.salt).fetch_one(&mut *transaction).await?;
        let excess = unsigned(count).saturating_sub(entries).min(limit);
        let gone = match excess {
            0 => 0,
            excess => self.remove(&mut *transaction, Timestamp(i64::MAX), excess).await?,
        };
        transaction.commit().await?;
        Ok(gone)
    }
}

fn part() -> i16 {
    rand::rng().random_range(0..PARTS)
}

#[async_trait]
impl Rows for PostgresRows {
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
        let query = sqlx::query_scalar(PUT)
            .bind(&self.salt)
            .bind(key)
            .bind(result)
            .bind(times.now.0)
            .bind(keep)
            .bind(times.expired.0)
            .bind(part());
        let put: i64 = query.fetch_one(&self.pool).await.map_err(|source| self.error(&source))?;
        Ok(put > 0)
    }

    async fn delete(&self, key: &[u8]) -> Result<(), StoreError> {
        let query = sqlx::query(DELETE).bind(&self.salt).bind(key).bind(part());
        query.execute(&self.pool).await.map(drop).map_err(|source| self.error(&source))
    }

    async fn expire(&self, before: Timestamp, limit: u64) -> Result<u64, StoreError> {
        self.remove(&self.pool, before, limit).await.map_err(|source| self.error(&source))
    }

    async fn trim(&self, entries: u64, limit: u64) -> Result<u64, StoreError> {
        self.trimmed(entries, limit).await.map_err(|source| self.error(&source))
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let query = sqlx::query("SELECT 1 FROM action_result_totals LIMIT 1");
        query.fetch_optional(&self.pool).await.map(drop).map_err(|source| self.error(&source))
    }
}
