//! The statements on PostgreSQL: one round trip a call.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Key, Rows, Small, Value};
use crate::StoreError;
use crate::sql::{error, unsigned};

const PRESENT: &str = "SELECT key, size FROM cas_values WHERE key = ANY($1::bytea[])";
const VALUE: &str = "SELECT size, content FROM cas_values WHERE key = $1";
const PART: &str = "SELECT data FROM cas_parts WHERE content = $1 AND part = $2";
const SMALL: &str = "
SELECT v.key, v.size, p.data FROM cas_values v JOIN cas_parts p ON p.content = v.content AND p.part = 0
WHERE v.key = ANY($1::bytea[])";
const PUT_PART: &str = "
INSERT INTO cas_parts (content, part, data, stored) VALUES ($1, $2, $3, $4) ON CONFLICT (content, part) DO NOTHING";
const NAME: &str = "
INSERT INTO cas_values AS v (key, size, content) VALUES ($1, $2, $3)
ON CONFLICT (key) DO UPDATE SET size = v.size WHERE v.content = excluded.content";
// Keys are taken in their order, so that two calls never wait for each other in a ring.
const PUT_SMALL: &str = "
WITH given AS (
    SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::uuid[], $4::bytea[]) AS g (key, size, content, data) ORDER BY key
),
named AS (
    INSERT INTO cas_values (key, size, content) SELECT key, size, content FROM given
    ON CONFLICT (key) DO NOTHING RETURNING content
)
INSERT INTO cas_parts (content, part, data, stored)
SELECT given.content, 0, given.data, $5 FROM given JOIN named USING (content)";
const DROP_PARTS: &str = "DELETE FROM cas_parts WHERE content = $1";
const DELETE: &str = "
WITH gone AS (DELETE FROM cas_values WHERE key = ANY($1::bytea[]) RETURNING content)
DELETE FROM cas_parts p USING gone WHERE p.content = gone.content";
const DROP_ABANDONED: &str = "
DELETE FROM cas_parts p WHERE p.stored < $1
    AND NOT EXISTS (SELECT 1 FROM cas_values v WHERE v.content = p.content)";

const LIST: &str = "
SELECT v.key, v.size, coalesce((SELECT p.stored FROM cas_parts p WHERE p.content = v.content AND p.part = 0), 0)
FROM cas_values v WHERE v.key > $1 AND v.key < $3 ORDER BY v.key LIMIT $2";
const STORED: &str = "
SELECT v.key, v.size, p.stored FROM cas_values v JOIN cas_parts p ON p.content = v.content AND p.part = 0
WHERE v.key = ANY($1::bytea[])";

#[derive(Debug)]
pub(super) struct PostgresRows {
    pub(super) pool: PgPool,
    pub(super) name: Arc<str>,
}

impl PostgresRows {
    fn error(&self, source: &sqlx::Error) -> StoreError {
        error(&self.name, source)
    }
}

#[async_trait]
impl Rows for PostgresRows {
    async fn present(&self, keys: &[Key]) -> Result<Vec<(Key, i64)>, StoreError> {
        let query = sqlx::query_as(PRESENT).bind(keys.to_vec());
        query.fetch_all(&self.pool).await.map_err(|e| self.error(&e))
    }

    async fn value(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        let row: Option<(i64, Uuid)> =
            sqlx::query_as(VALUE).bind(key).fetch_optional(&self.pool).await.map_err(|e| self.error(&e))?;
        Ok(row.map(|(size, content)| Value { size: unsigned(size), content }))
    }

    async fn part(&self, content: Uuid, part: i32) -> Result<Option<Bytes>, StoreError> {
        let query = sqlx::query_scalar(PART).bind(content).bind(part);
        let data: Option<Vec<u8>> = query.fetch_optional(&self.pool).await.map_err(|e| self.error(&e))?;
        Ok(data.map(Bytes::from))
    }

    async fn small(&self, keys: &[Key]) -> Result<Vec<(Key, i64, Vec<u8>)>, StoreError> {
        let query = sqlx::query_as(SMALL).bind(keys.to_vec());
        query.fetch_all(&self.pool).await.map_err(|e| self.error(&e))
    }

    async fn put_part(&self, content: Uuid, part: i32, data: &[u8], now: i64) -> Result<(), StoreError> {
        let query = sqlx::query(PUT_PART).bind(content).bind(part).bind(data).bind(now);
        query.execute(&self.pool).await.map(drop).map_err(|e| self.error(&e))
    }

    async fn name(&self, key: &[u8], size: i64, content: Uuid) -> Result<bool, StoreError> {
        let query = sqlx::query(NAME).bind(key).bind(size).bind(content);
        let named = query.execute(&self.pool).await.map_err(|e| self.error(&e))?;
        Ok(named.rows_affected() > 0)
    }

    async fn put_small(&self, blobs: &[Small], now: i64) -> Result<(), StoreError> {
        let keys: Vec<Vec<u8>> = blobs.iter().map(|blob| blob.key.clone()).collect();
        let sizes: Vec<i64> = blobs.iter().map(|blob| blob.size).collect();
        let contents: Vec<Uuid> = blobs.iter().map(|blob| blob.content).collect();
        let data: Vec<&[u8]> = blobs.iter().map(|blob| &blob.data[..]).collect();
        let query = sqlx::query(PUT_SMALL).bind(keys).bind(sizes).bind(contents).bind(data).bind(now);
        query.execute(&self.pool).await.map(drop).map_err(|e| self.error(&e))
    }

    async fn drop_parts(&self, content: Uuid) -> Result<(), StoreError> {
        let query = sqlx::query(DROP_PARTS).bind(content);
        query.execute(&self.pool).await.map(drop).map_err(|e| self.error(&e))
    }

    async fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        let query = sqlx::query(DELETE).bind(keys.to_vec());
        query.execute(&self.pool).await.map(drop).map_err(|e| self.error(&e))
    }

    async fn drop_abandoned(&self, before: i64) -> Result<(), StoreError> {
        let query = sqlx::query(DROP_ABANDONED).bind(before);
        query.execute(&self.pool).await.map(drop).map_err(|e| self.error(&e))
    }

    async fn list(
        &self,
        after: &[u8],
        before: &[u8],
        limit: i64,
    ) -> Result<Vec<(Key, i64, i64)>, StoreError> {
        let query = sqlx::query_as(LIST).bind(after).bind(limit).bind(before);
        query.fetch_all(&self.pool).await.map_err(|e| self.error(&e))
    }

    async fn stored(&self, keys: &[Key]) -> Result<Vec<(Key, i64, i64)>, StoreError> {
        let query = sqlx::query_as(STORED).bind(keys.to_vec());
        query.fetch_all(&self.pool).await.map_err(|e| self.error(&e))
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let query = sqlx::query("SELECT 1 FROM cas_values LIMIT 1");
        query.fetch_optional(&self.pool).await.map(drop).map_err(|e| self.error(&e))
    }
}
