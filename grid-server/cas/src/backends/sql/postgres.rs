//! The statements on PostgreSQL: one round trip a call.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use grid_core::Digest;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Rows, Small, Value, stored_of};
use crate::StoreError;
use crate::content::DigestSet;
use crate::inventory::Stored;
use crate::sql::{digest, error, key, signed, unsigned};

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
FROM cas_values v WHERE v.key > $1 ORDER BY v.key LIMIT $2";
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

fn keys(digests: &[Digest]) -> Vec<Vec<u8>> {
    digests.iter().map(key).collect()
}

#[async_trait]
impl Rows for PostgresRows {
    async fn present(&self, digests: &[Digest]) -> Result<DigestSet, StoreError> {
        let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(PRESENT)
            .bind(keys(digests))
            .fetch_all(&self.pool)
            .await
            .map_err(|e| self.error(&e))?;
        rows.iter().map(|(key, size)| digest(&self.name, key, *size)).collect()
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

    async fn small(&self, digests: &[Digest]) -> Result<Vec<(Digest, Bytes)>, StoreError> {
        let rows: Vec<(Vec<u8>, i64, Vec<u8>)> = sqlx::query_as(SMALL)
            .bind(keys(digests))
            .fetch_all(&self.pool)
            .await
            .map_err(|e| self.error(&e))?;
        let blob = |(key, size, data): (Vec<u8>, i64, Vec<u8>)| {
            digest(&self.name, &key, size).map(|digest| (digest, Bytes::from(data)))
        };
        rows.into_iter().map(blob).collect()
    }

    async fn put_part(&self, content: Uuid, part: i32, data: &[u8], now: i64) -> Result<(), StoreError> {
        let query = sqlx::query(PUT_PART).bind(content).bind(part).bind(data).bind(now);
        query.execute(&self.pool).await.map(drop).map_err(|e| self.error(&e))
    }

    async fn name(&self, digest: &Digest, content: Uuid) -> Result<bool, StoreError> {
        let query = sqlx::query(NAME).bind(key(digest)).bind(digest.size_signed()).bind(content);
        let named = query.execute(&self.pool).await.map_err(|e| self.error(&e))?;
        Ok(named.rows_affected() > 0)
    }

    async fn put_small(&self, blobs: &[Small], now: i64) -> Result<(), StoreError> {
        let keys: Vec<Vec<u8>> = blobs.iter().map(|blob| key(&blob.digest)).collect();
        let sizes: Vec<i64> = blobs.iter().map(|blob| blob.digest.size_signed()).collect();
        let contents: Vec<Uuid> = blobs.iter().map(|blob| blob.content).collect();
        let data: Vec<&[u8]> = blobs.iter().map(|blob| &blob.data[..]).collect();
        let query = sqlx::query(PUT_SMALL).bind(keys).bind(sizes).bind(contents).bind(data).bind(now);
        query.execute(&self.pool).await.map(drop).map_err(|e| self.error(&e))
    }

    async fn drop_parts(&self, content: Uuid) -> Result<(), StoreError> {
        let query = sqlx::query(DROP_PARTS).bind(content);
        query.execute(&self.pool).await.map(drop).map_err(|e| self.error(&e))
    }

    async fn delete(&self, digests: &[Digest]) -> Result<(), StoreError> {
        let query = sqlx::query(DELETE).bind(keys(digests));
        query.execute(&self.pool).await.map(drop).map_err(|e| self.error(&e))
    }

    async fn drop_abandoned(&self, before: i64) -> Result<(), StoreError> {
        let query = sqlx::query(DROP_ABANDONED).bind(before);
        query.execute(&self.pool).await.map(drop).map_err(|e| self.error(&e))
    }

    async fn list(&self, after: &[u8], limit: usize) -> Result<Vec<Stored>, StoreError> {
        let query = sqlx::query_as(LIST).bind(after).bind(signed(limit as u64));
        let rows: Vec<(Vec<u8>, i64, i64)> = query.fetch_all(&self.pool).await.map_err(|e| self.error(&e))?;
        rows.into_iter().map(|row| stored_of(&self.name, row)).collect()
    }

    async fn stored(&self, digests: &[Digest]) -> Result<Vec<Stored>, StoreError> {
        let query = sqlx::query_as(STORED).bind(keys(digests));
        let rows: Vec<(Vec<u8>, i64, i64)> = query.fetch_all(&self.pool).await.map_err(|e| self.error(&e))?;
        rows.into_iter().map(|row| stored_of(&self.name, row)).collect()
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let query = sqlx::query("SELECT 1 FROM cas_values LIMIT 1");
        query.fetch_optional(&self.pool).await.map(drop).map_err(|e| self.error(&e))
    }
}
