//! The index in an SQLite file. Writers take turns: each call that writes is one immediate transaction. Keys are bound
//! as one JSON array, whatever their number.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use grid_core::{Digest, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, SqlitePool, Transaction};
use uuid::Uuid;

use super::{PAGE, SqlIndexOptions, pages};
use crate::StoreError;
use crate::content::DigestSet;
use crate::index::{BlobIndex, Claim, Known, NewBlob, Pages, Pinned, SKEW, Totals};
use crate::sql::{digest, error, json_blobs, json_keys, key, signed, unsigned};

const NOTE: &str = "
UPDATE cas_blobs SET accessed = ?3 WHERE store = ?1 AND accessed < ?4 AND deleting IS NULL
    AND key IN (SELECT unhex(value) FROM json_each(?2))";
const STALE: &str = "
SELECT 1 FROM cas_blobs WHERE store = ?1 AND accessed < ?3 AND deleting IS NULL
    AND key IN (SELECT unhex(value) FROM json_each(?2)) LIMIT 1";
const PRESENT: &str = "
SELECT key, size FROM cas_blobs WHERE store = ?1 AND deleting IS NULL
    AND key IN (SELECT unhex(value) FROM json_each(?2))";
const CONTENTS: &str = "
SELECT key, length(data), data FROM cas_inline
WHERE store = ?1 AND key IN (SELECT unhex(value) FROM json_each(?2))";
// Blobs as pairs of a key and a size; those that are new, with a claim or without.
const ADD: &str = "
INSERT INTO cas_blobs (store, key, size, accessed, deleting)
SELECT ?1, unhex(value ->> 0), value ->> 1, ?3, ?4 FROM json_each(?2) WHERE true
ON CONFLICT (store, key) DO NOTHING RETURNING key, size";
const RENEW: &str = "
UPDATE cas_blobs SET accessed = max(accessed, ?3), deleting = NULL
WHERE store = ?1 AND (deleting IS NULL OR deleting < ?3) AND key IN (SELECT unhex(value) FROM json_each(?2))";
const INLINE: &str = "
INSERT INTO cas_inline (store, key, data) VALUES (?1, ?2, ?3) ON CONFLICT (store, key) DO NOTHING";
const COUNT: &str = "
INSERT INTO cas_totals (store, bytes, blobs) VALUES (?1, ?2, ?3)
ON CONFLICT (store) DO UPDATE SET bytes = bytes + excluded.bytes, blobs = blobs + excluded.blobs";
const HAD_CLAIM: &str = "
SELECT key, size FROM cas_blobs WHERE store = ?1 AND deleting IS NOT NULL
    AND key IN (SELECT unhex(value) FROM json_each(?2))";
const NOTED: &str = "
SELECT key, size FROM cas_blobs WHERE store = ?1 AND key IN (SELECT unhex(value) FROM json_each(?2))";
const KNOWN: &str = "
SELECT b.key, b.size FROM cas_blobs b
WHERE b.store = ?1 AND b.key > ?2 AND b.deleting IS NULL
    AND NOT EXISTS (SELECT 1 FROM cas_inline i WHERE i.store = b.store AND i.key = b.key)
ORDER BY b.key LIMIT ?3";
const TAKE_TURN: &str = "
INSERT INTO cas_turns (store, holder, until) VALUES (?1, ?2, ?4)
ON CONFLICT (store) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE holder = excluded.holder OR until < ?3";
const END_TURN: &str = "DELETE FROM cas_turns WHERE store = ?1 AND holder = ?2";
const CLAIMED: &str = "
SELECT key, size FROM cas_blobs WHERE store = ?1 AND deleting >= ?3
    AND key IN (SELECT unhex(value) FROM json_each(?2))";
const OLDEST: &str = "
SELECT key, size FROM cas_blobs
WHERE store = ?1 AND accessed < max(?2, ?4) AND (accessed < ?2 OR size > ?3) AND (deleting IS NULL OR deleting < ?5)
ORDER BY accessed, key LIMIT ?6";
const ELIGIBLE: &str = "
SELECT coalesce(sum(size), 0), count(*) FROM cas_blobs
WHERE store = ?1 AND accessed < max(?2, ?4) AND (accessed < ?2 OR size > ?3) AND (deleting IS NULL OR deleting < ?5)";
const CLAIM_THESE: &str = "
UPDATE cas_blobs SET deleting = ?4 WHERE store = ?1 AND (deleting IS NULL OR deleting < ?3)
    AND key IN (SELECT unhex(value) FROM json_each(?2)) RETURNING key, size";
const FORGET: &str = "
DELETE FROM cas_blobs WHERE store = ?1 AND deleting = ?3
    AND key IN (SELECT unhex(value) FROM json_each(?2)) RETURNING key, size";
const RELEASE: &str = "
UPDATE cas_blobs SET deleting = NULL WHERE store = ?1 AND deleting = ?3
    AND key IN (SELECT unhex(value) FROM json_each(?2))";
const UNPIN: &str = "
UPDATE cas_blobs SET accessed = ?3 WHERE store = ?1 AND accessed > ?3
    AND key IN (SELECT unhex(value) FROM json_each(?2)) RETURNING key, size";
const PINS: &str = "
SELECT key, size, accessed FROM cas_blobs WHERE store = ?1 AND key > ?2 AND accessed > ?3 ORDER BY key LIMIT ?4";
const PINNED: &str =
    "SELECT coalesce(sum(size), 0), count(*) FROM cas_blobs WHERE store = ?1 AND accessed > ?2";

/// The index in an SQLite file.
#[derive(Debug)]
pub struct SqliteIndex {
    pool: SqlitePool,
    options: SqlIndexOptions,
}

impl SqliteIndex {
    /// The index over `pool`.
    #[must_use]
    pub fn new(pool: SqlitePool, options: SqlIndexOptions) -> Self {
        Self { pool, options }
    }

    fn error(&self, source: &sqlx::Error) -> StoreError {
        error(&self.options.name, source)
    }

    fn store(&self) -> &str {
        &self.options.store
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(|source| self.error(&source))
    }

    async fn commit(&self, transaction: Transaction<'static, Sqlite>) -> Result<(), StoreError> {
        transaction.commit().await.map_err(|source| self.error(&source))
    }

    fn digests<C: FromIterator<Digest>>(
        &self,
        rows: Result<Vec<SqliteRow>, sqlx::Error>,
    ) -> Result<C, StoreError> {
        let rows = rows.map_err(|source| self.error(&source))?;
        let parse = |row: &SqliteRow| {
            let columns = row.try_get::<&[u8], _>(0).and_then(|key| Ok((key, row.try_get::<i64, _>(1)?)));
            let (key, size) = columns.map_err(|source| self.error(&source))?;
            digest(&self.options.name, key, size)
        };
        rows.iter().map(parse).collect()
    }

    /// Those that are there; the use of those that were used before `stale` is noted as one at `at`.
    async fn used(
        &self,
        digests: &[Digest],
        at: Timestamp,
        stale: Timestamp,
    ) -> Result<DigestSet, StoreError> {
        let keys = json_keys(digests);
        let old =
            sqlx::query(STALE).bind(self.store()).bind(&keys).bind(stale.0).fetch_optional(&self.pool).await;
        if old.map_err(|source| self.error(&source))?.is_some() {
            let note = sqlx::query(NOTE).bind(self.store()).bind(&keys).bind(at.0).bind(stale.0);
            note.execute(&self.pool).await.map_err(|source| self.error(&source))?;
        }
        let query = sqlx::query(PRESENT).bind(self.store()).bind(&keys);
        self.digests(query.fetch_all(&self.pool).await)
    }

    fn pinned_of(&self, rows: Result<Vec<SqliteRow>, sqlx::Error>) -> Result<Vec<Pinned>, StoreError> {
        let rows = rows.map_err(|source| self.error(&source))?;
        let until = |row: &SqliteRow| row.try_get(2).map(Timestamp).map_err(|source| self.error(&source));
        let untils: Vec<Timestamp> = rows.iter().map(until).collect::<Result<_, _>>()?;
        let digests: Vec<Digest> = self.digests(Ok(rows))?;
        Ok(digests.into_iter().zip(untils).map(|(digest, until)| Pinned { digest, until }).collect())
    }

    fn totals_of(&self, row: Result<(i64, i64), sqlx::Error>) -> Result<Totals, StoreError> {
        let (bytes, blobs) = row.map_err(|source| self.error(&source))?;
        Ok(Totals { bytes: unsigned(bytes), blobs: unsigned(blobs) })
    }

    async fn count(
        &self,
        transaction: &mut Transaction<'static, Sqlite>,
        bytes: i64,
        blobs: i64,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(COUNT).bind(self.store()).bind(bytes).bind(blobs);
        query.execute(&mut **transaction).await.map(drop).map_err(|source| self.error(&source))
    }

    /// Adds and counts those of `digests` that are new, claimed until then where that is said; gives them.
    async fn add(
        &self,
        transaction: &mut Transaction<'static, Sqlite>,
        digests: &[Digest],
        now: Timestamp,
        until: Option<Timestamp>,
    ) -> Result<DigestSet, StoreError> {
        let add = sqlx::query(ADD).bind(self.store()).bind(json_blobs(digests));
        let add = add.bind(now.0).bind(until.map(|until| until.0));
        let fresh: DigestSet = self.digests(add.fetch_all(&mut **transaction).await)?;
        let new = Totals::of(&fresh);
        self.count(transaction, signed(new.bytes), signed(new.blobs)).await?;
        Ok(fresh)
    }
}

#[async_trait]
impl BlobIndex for SqliteIndex {
    async fn present(&self, digests: &[Digest], now: Timestamp) -> Result<DigestSet, StoreError> {
        self.used(digests, now, now.before(self.options.precision)).await
    }

    fn precision(&self) -> Duration {
        self.options.precision
    }

    async fn contents(&self, digests: &[Digest]) -> Result<Vec<(Digest, Bytes)>, StoreError> {
        let rows =
            sqlx::query(CONTENTS).bind(self.store()).bind(json_keys(digests)).fetch_all(&self.pool).await;
        let rows = rows.map_err(|source| self.error(&source))?;
        let data =
            |row: &SqliteRow| row.try_get::<Vec<u8>, _>(2).map(Bytes::from).map_err(|e| self.error(&e));
        let contents: Vec<Bytes> = rows.iter().map(data).collect::<Result<_, _>>()?;
        let digests: Vec<Digest> = self.digests(Ok(rows))?;
        Ok(digests.into_iter().zip(contents).collect())
    }

    async fn insert(&self, blobs: &[NewBlob], now: Timestamp) -> Result<DigestSet, StoreError> {
        let digests: Vec<Digest> = blobs.iter().map(|blob| blob.digest).collect();
        let mut transaction = self.begin().await?;
        let keys = json_keys(&digests);
        let claimed = sqlx::query(HAD_CLAIM).bind(self.store()).bind(&keys);
        let claimed = self.digests(claimed.fetch_all(&mut *transaction).await)?;
        let renew = sqlx::query(RENEW).bind(self.store()).bind(keys).bind(now.0);
        renew.execute(&mut *transaction).await.map_err(|source| self.error(&source))?;
        self.add(&mut transaction, &digests, now, None).await?;
        for NewBlob { digest, content } in blobs {
            let Some(content) = content else { continue };
            let inline = sqlx::query(INLINE).bind(self.store()).bind(key(digest)).bind(&content[..]);
            inline.execute(&mut *transaction).await.map_err(|source| self.error(&source))?;
        }
        self.commit(transaction).await?;
        Ok(claimed)
    }

    async fn adopt(
        &self,
        digests: &[Digest],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<DigestSet, StoreError> {
        let mut transaction = self.begin().await?;
        let fresh = self.add(&mut transaction, digests, now, Some(until)).await?;
        self.commit(transaction).await?;
        Ok(fresh)
    }

    async fn noted(&self, digests: &[Digest]) -> Result<DigestSet, StoreError> {
        let query = sqlx::query(NOTED).bind(self.store()).bind(json_keys(digests));
        self.digests(query.fetch_all(&self.pool).await)
    }

    fn known(&self) -> Known<'_> {
        pages(
            move |after| async move {
                let query = sqlx::query(KNOWN).bind(self.store()).bind(after).bind(PAGE);
                self.digests(query.fetch_all(&self.pool).await)
            },
            |digest| digest,
        )
    }

    async fn claimed(&self, digests: &[Digest], now: Timestamp) -> Result<DigestSet, StoreError> {
        let query = sqlx::query(CLAIMED).bind(self.store()).bind(json_keys(digests)).bind(now.0);
        self.digests(query.fetch_all(&self.pool).await)
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Digest>, StoreError> {
        let (size, since) = claim.large.unwrap_or((u64::MAX, Timestamp(i64::MIN)));
        let mut transaction = self.begin().await?;
        let oldest = sqlx::query(OLDEST)
            .bind(self.store())
            .bind(claim.unused_since.0)
            .bind(signed(size))
            .bind(since.0)
            .bind(claim.now.0)
            .bind(signed(claim.blobs));
        let mut oldest: Vec<Digest> = self.digests(oldest.fetch_all(&mut *transaction).await)?;
        let mut sum = 0_u64;
        let enough = oldest.iter().position(|digest| {
            let enough = sum >= claim.bytes;
            sum += digest.size();
            enough
        });
        oldest.truncate(enough.unwrap_or(oldest.len()));
        let mark = sqlx::query(CLAIM_THESE)
            .bind(self.store())
            .bind(json_keys(&oldest))
            .bind(claim.now.0)
            .bind(claim.until.0);
        let marked = self.digests(mark.fetch_all(&mut *transaction).await)?;
        self.commit(transaction).await?;
        Ok(marked)
    }

    async fn eligible(&self, claim: &Claim) -> Result<Totals, StoreError> {
        let (size, since) = claim.large.unwrap_or((u64::MAX, Timestamp(i64::MIN)));
        let query = sqlx::query_as(ELIGIBLE)
            .bind(self.store())
            .bind(claim.unused_since.0)
            .bind(signed(size))
            .bind(since.0)
            .bind(claim.now.0);
        self.totals_of(query.fetch_one(&self.pool).await)
    }

    async fn claim_these(
        &self,
        digests: &[Digest],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Digest>, StoreError> {
        let query =
            sqlx::query(CLAIM_THESE).bind(self.store()).bind(json_keys(digests)).bind(now.0).bind(until.0);
        self.digests(query.fetch_all(&self.pool).await)
    }

    async fn forget(&self, digests: &[Digest], until: Timestamp) -> Result<Totals, StoreError> {
        let mut transaction = self.begin().await?;
        let forget = sqlx::query(FORGET).bind(self.store()).bind(json_keys(digests)).bind(until.0);
        let gone: Vec<Digest> = self.digests(forget.fetch_all(&mut *transaction).await)?;
        let freed = Totals::of(&gone);
        self.count(&mut transaction, -signed(freed.bytes), -signed(freed.blobs)).await?;
        self.commit(transaction).await?;
        Ok(freed)
    }

    async fn release(&self, digests: &[Digest], until: Timestamp) -> Result<(), StoreError> {
        let query = sqlx::query(RELEASE).bind(self.store()).bind(json_keys(digests)).bind(until.0);
        query.execute(&self.pool).await.map(drop).map_err(|source| self.error(&source))
    }

    async fn pin(&self, digests: &[Digest], until: Timestamp) -> Result<DigestSet, StoreError> {
        self.used(digests, until, until).await
    }

    async fn unpin(&self, digests: &[Digest], now: Timestamp) -> Result<DigestSet, StoreError> {
        let query = sqlx::query(UNPIN).bind(self.store()).bind(json_keys(digests)).bind(now.0);
        self.digests(query.fetch_all(&self.pool).await)
    }

    fn pins(&self, now: Timestamp) -> Pages<'_, Pinned> {
        let now = now.after(SKEW);
        pages(
            move |after| async move {
                let query = sqlx::query(PINS).bind(self.store()).bind(after).bind(now.0).bind(PAGE);
                self.pinned_of(query.fetch_all(&self.pool).await)
            },
            |pin| &pin.digest,
        )
    }

    async fn pinned(&self, now: Timestamp) -> Result<Totals, StoreError> {
        let query = sqlx::query_as(PINNED).bind(self.store()).bind(now.after(SKEW).0);
        self.totals_of(query.fetch_one(&self.pool).await)
    }

    async fn take_turn(&self, holder: Uuid, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let query = sqlx::query(TAKE_TURN).bind(self.store()).bind(holder).bind(now.0).bind(until.0);
        let taken = query.execute(&self.pool).await.map_err(|source| self.error(&source))?;
        Ok(taken.rows_affected() > 0)
    }

    async fn end_turn(&self, holder: Uuid) -> Result<(), StoreError> {
        let query = sqlx::query(END_TURN).bind(self.store()).bind(holder);
        query.execute(&self.pool).await.map(drop).map_err(|source| self.error(&source))
    }

    /// A file is one machine's.
    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        let query = sqlx::query_as("SELECT bytes, blobs FROM cas_totals WHERE store = ?1").bind(self.store());
        let row: Option<(i64, i64)> = query.fetch_optional(&self.pool).await.map_err(|e| self.error(&e))?;
        let (bytes, blobs) = row.unwrap_or_default();
        Ok(Totals { bytes: unsigned(bytes), blobs: unsigned(blobs) })
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let query = sqlx::query("SELECT 1 FROM cas_totals LIMIT 1");
        query.fetch_optional(&self.pool).await.map(drop).map_err(|source| self.error(&source))
    }
}
