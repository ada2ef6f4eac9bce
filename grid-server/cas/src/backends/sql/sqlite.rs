//! The statements in an SQLite file. Keys are bound as one JSON array, whatever their number.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{Sqlite, SqlitePool, Transaction};
use uuid::Uuid;

use super::{Key, Rows, Small, Value};
use crate::StoreError;
use crate::sql::{error, json_list, unsigned};

const PRESENT: &str =
    "SELECT key, size FROM cas_values WHERE key IN (SELECT unhex(value) FROM json_each(?1))";
const VALUE: &str = "SELECT size, content FROM cas_values WHERE key = ?1";
const PART: &str = "SELECT data FROM cas_parts WHERE content = ?1 AND part = ?2";
const SMALL: &str = "
SELECT v.key, v.size, p.data FROM cas_values v JOIN cas_parts p ON p.content = v.content AND p.part = 0
WHERE v.key IN (SELECT unhex(value) FROM json_each(?1))";
const PUT_PART: &str = "
INSERT INTO cas_parts (content, part, data, stored) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (content, part) DO NOTHING";
const NAME: &str = "
INSERT INTO cas_values (key, size, content) VALUES (?1, ?2, ?3)
ON CONFLICT (key) DO UPDATE SET size = size WHERE content = excluded.content";
const NEW_NAME: &str =
    "INSERT INTO cas_values (key, size, content) VALUES (?1, ?2, ?3) ON CONFLICT (key) DO NOTHING";
const DROP_PARTS: &str = "DELETE FROM cas_parts WHERE content = ?1";
const DELETE_PARTS: &str = "
DELETE FROM cas_parts WHERE content IN (
    SELECT content FROM cas_values WHERE key IN (SELECT unhex(value) FROM json_each(?1)))";
const DELETE: &str = "DELETE FROM cas_values WHERE key IN (SELECT unhex(value) FROM json_each(?1))";
const DROP_ABANDONED: &str = "
DELETE FROM cas_parts WHERE stored < ?1
    AND NOT EXISTS (SELECT 1 FROM cas_values v WHERE v.content = cas_parts.content)";

const LIST: &str = "
SELECT v.key, v.size, coalesce((SELECT p.stored FROM cas_parts p WHERE p.content = v.content AND p.part = 0), 0)
FROM cas_values v WHERE v.key > ?1 AND v.key < ?3 ORDER BY v.key LIMIT ?2";
const STORED: &str = "
SELECT v.key, v.size, p.stored FROM cas_values v JOIN cas_parts p ON p.content = v.content AND p.part = 0
WHERE v.key IN (SELECT unhex(value) FROM json_each(?1))";

#[derive(Debug)]
pub(super) struct SqliteRows {
    pub(super) pool: SqlitePool,
    pub(super) name: Arc<str>,
}

impl SqliteRows {
    fn error(&self, source: &sqlx::Error) -> StoreError {
        error(&self.name, source)
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(|e| self.error(&e))
    }

    async fn put(
        &self,
        transaction: &mut Transaction<'static, Sqlite>,
        blob: &Small,
        now: i64,
    ) -> Result<(), sqlx::Error> {
        let name = sqlx::query(NEW_NAME).bind(&blob.key).bind(blob.size);
        let named = name.bind(blob.content).execute(&mut **transaction).await?;
        if named.rows_affected() > 0 {
            let part = sqlx::query(PUT_PART).bind(blob.content).bind(0).bind(&blob.data[..]).bind(now);
            part.execute(&mut **transaction).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Rows for SqliteRows {
    async fn present(&self, keys: &[Key]) -> Result<Vec<(Key, i64)>, StoreError> {
        let query = sqlx::query_as(PRESENT).bind(json_list(keys));
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
        let query = sqlx::query_as(SMALL).bind(json_list(keys));
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
        let mut transaction = self.begin().await?;
        for blob in blobs {
            self.put(&mut transaction, blob, now).await.map_err(|e| self.error(&e))?;
        }
        transaction.commit().await.map_err(|e| self.error(&e))
    }

    async fn drop_parts(&self, content: Uuid) -> Result<(), StoreError> {
        let query = sqlx::query(DROP_PARTS).bind(content);
        query.execute(&self.pool).await.map(drop).map_err(|e| self.error(&e))
    }

    async fn delete(&self, keys: &[Key]) -> Result<(), StoreError> {
        let keys = json_list(keys);
        let mut transaction = self.begin().await?;
        for statement in [DELETE_PARTS, DELETE] {
            let query = sqlx::query(statement).bind(&keys);
            query.execute(&mut *transaction).await.map_err(|e| self.error(&e))?;
        }
        transaction.commit().await.map_err(|e| self.error(&e))
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
        let query = sqlx::query_as(STORED).bind(json_list(keys));
        query.fetch_all(&self.pool).await.map_err(|e| self.error(&e))
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let query = sqlx::query("SELECT 1 FROM cas_values LIMIT 1");
        query.fetch_optional(&self.pool).await.map(drop).map_err(|e| self.error(&e))
    }
}
