//! The index on PostgreSQL. Each call is one statement: what it reads and what it writes are one transaction, in one
//! round trip. Rows are locked in the order of their keys, so that two calls never wait for each other in a ring.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use grid_core::{Digest, Timestamp};
use rand::RngExt;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::{PAGE, SqlIndexOptions, pages};
use crate::StoreError;
use crate::content::DigestSet;
use crate::index::{BlobIndex, Claim, Known, NewBlob, Pages, Pinned, SKEW, Totals};
use crate::sql::{digest, error, key, signed, unsigned};

/// In how many parts the totals are kept.
const PARTS: i16 = 16;

// Each asked blob is fresh (and read without a lock) or stale (and noted anew, unless a claim got there first). That it
// is stale is not asked again under the lock: another call may have noted it meanwhile, and it is there all the same.
const PRESENT: &str = "
WITH asked AS (SELECT unnest($2::bytea[]) AS key),
there AS MATERIALIZED (
    SELECT b.key, b.size, b.accessed < $4 AS stale FROM cas_blobs b JOIN asked USING (key)
    WHERE b.store = $1 AND b.deleting IS NULL
),
locked AS (
    SELECT b.key FROM cas_blobs b JOIN there USING (key)
    WHERE b.store = $1 AND there.stale AND b.deleting IS NULL ORDER BY b.key FOR UPDATE OF b
),
noted AS (
    UPDATE cas_blobs b SET accessed = greatest(b.accessed, $3) FROM locked
    WHERE b.store = $1 AND b.key = locked.key RETURNING b.key, b.size
)
SELECT key, size FROM there WHERE NOT stale UNION ALL SELECT key, size FROM noted";

const CONTENTS: &str = "
SELECT i.key, octet_length(i.data)::bigint AS size, i.data FROM cas_inline i
WHERE i.store = $1 AND i.key = ANY($2::bytea[])";

// A row with a claim that has not ended is left as it is. Which those are is told by what was written: another call may
// have claimed a row after this statement began.
const INSERT: &str = "
WITH given AS (
    SELECT DISTINCT ON (key) key, size, data FROM unnest($2::bytea[], $3::bigint[], $4::bytea[]) AS g (key, size, data)
    ORDER BY key
),
claimed AS MATERIALIZED (
    SELECT b.key, b.size FROM cas_blobs b JOIN given USING (key) WHERE b.store = $1 AND b.deleting IS NOT NULL
),
there AS (
    INSERT INTO cas_blobs (store, key, size, accessed) SELECT $1, key, size, $5 FROM given
    ON CONFLICT (store, key) DO UPDATE SET accessed = greatest(cas_blobs.accessed, excluded.accessed), deleting = NULL
    WHERE cas_blobs.deleting IS NULL OR cas_blobs.deleting < excluded.accessed
    RETURNING key, size, xmax = 0 AS fresh
),
kept AS (
    INSERT INTO cas_inline (store, key, data)
    SELECT $1, key, data FROM given JOIN there USING (key) WHERE data IS NOT NULL
    ON CONFLICT (store, key) DO NOTHING
),
counted AS (
    INSERT INTO cas_totals AS t (store, part, bytes, blobs)
    SELECT $1, $6, sum(size), count(*) FROM there WHERE fresh HAVING count(*) > 0
    ON CONFLICT (store, part) DO UPDATE SET bytes = t.bytes + excluded.bytes, blobs = t.blobs + excluded.blobs
)
SELECT key, size FROM claimed
UNION SELECT key, size FROM given WHERE key NOT IN (SELECT key FROM there)";

const ADOPT: &str = "
WITH given AS (
    SELECT DISTINCT key, size FROM unnest($2::bytea[], $3::bigint[]) AS g (key, size) ORDER BY key
),
fresh AS (
    INSERT INTO cas_blobs (store, key, size, accessed, deleting) SELECT $1, key, size, $4, $5 FROM given
    ON CONFLICT (store, key) DO NOTHING RETURNING key, size
),
counted AS (
    INSERT INTO cas_totals AS t (store, part, bytes, blobs)
    SELECT $1, $6, sum(size), count(*) FROM fresh HAVING count(*) > 0
    ON CONFLICT (store, part) DO UPDATE SET bytes = t.bytes + excluded.bytes, blobs = t.blobs + excluded.blobs
)
SELECT key, size FROM fresh";

const NOTED: &str = "SELECT key, size FROM cas_blobs WHERE store = $1 AND key = ANY($2::bytea[])";

const KNOWN: &str = "
SELECT b.key, b.size FROM cas_blobs b
WHERE b.store = $1 AND b.key > $2 AND b.deleting IS NULL
    AND NOT EXISTS (SELECT 1 FROM cas_inline i WHERE i.store = b.store AND i.key = b.key)
ORDER BY b.key LIMIT $3";

const TAKE_TURN: &str = "
INSERT INTO cas_turns AS t (store, holder, until) VALUES ($1, $2, $4)
ON CONFLICT (store) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE t.holder = excluded.holder OR t.until < $3";

const TIME: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

const END_TURN: &str = "DELETE FROM cas_turns WHERE store = $1 AND holder = $2";

const CLAIMED: &str =
    "SELECT key, size FROM cas_blobs WHERE store = $1 AND key = ANY($2::bytea[]) AND deleting >= $3";

// What is locked is found again by its place (ctid), not by its key: to join ten thousand keys, the planner would read the
// whole table. A row that another call wrote anew in between has another place, and is left alone.
const CLAIM: &str = "
WITH oldest AS MATERIALIZED (
    SELECT ctid AS place, key, size, accessed FROM cas_blobs
    WHERE store = $1 AND accessed < greatest($2, $4) AND (accessed < $2 OR size > $3)
        AND (deleting IS NULL OR deleting < $7)
    ORDER BY accessed LIMIT $6 FOR UPDATE SKIP LOCKED
),
summed AS (SELECT place, sum(size) OVER (ORDER BY accessed, key) - size AS sooner FROM oldest)
UPDATE cas_blobs SET deleting = $8
WHERE ctid = ANY(ARRAY(SELECT place FROM summed WHERE sooner < $5)) RETURNING key, size";

const ELIGIBLE: &str = "
SELECT coalesce(sum(size), 0)::bigint AS bytes, count(*) AS blobs FROM cas_blobs
WHERE store = $1 AND accessed < greatest($2, $4) AND (accessed < $2 OR size > $3)
    AND (deleting IS NULL OR deleting < $5)";

const CLAIM_THESE: &str = "
WITH these AS (
    SELECT key FROM cas_blobs
    WHERE store = $1 AND key = ANY($2::bytea[]) AND (deleting IS NULL OR deleting < $3) ORDER BY key FOR UPDATE
)
UPDATE cas_blobs b SET deleting = $4 FROM these
WHERE b.store = $1 AND b.key = these.key RETURNING b.key, b.size";

const FORGET: &str = "
WITH these AS (
    SELECT ctid AS place FROM cas_blobs
    WHERE store = $1 AND key = ANY($2::bytea[]) AND deleting = $3 ORDER BY key FOR UPDATE
),
gone AS (DELETE FROM cas_blobs WHERE ctid = ANY(ARRAY(SELECT place FROM these)) RETURNING size),
freed AS (SELECT coalesce(sum(size), 0)::bigint AS bytes, count(*) AS blobs FROM gone),
counted AS (
    INSERT INTO cas_totals AS t (store, part, bytes, blobs)
    SELECT $1, $4, -bytes, -blobs FROM freed WHERE blobs > 0
    ON CONFLICT (store, part) DO UPDATE SET bytes = t.bytes + excluded.bytes, blobs = t.blobs + excluded.blobs
)
SELECT bytes, blobs FROM freed";

const RELEASE: &str = "
UPDATE cas_blobs SET deleting = NULL WHERE store = $1 AND key = ANY($2::bytea[]) AND deleting = $3";

const UNPIN: &str = "
WITH these AS (
    SELECT key FROM cas_blobs
    WHERE store = $1 AND key = ANY($2::bytea[]) AND accessed > $3 ORDER BY key FOR UPDATE
)
UPDATE cas_blobs b SET accessed = $3 FROM these
WHERE b.store = $1 AND b.key = these.key RETURNING b.key, b.size";

const PINS: &str = "
SELECT key, size, accessed FROM cas_blobs
WHERE store = $1 AND key > $2 AND accessed > $3 ORDER BY key LIMIT $4";

const PINNED: &str = "
SELECT coalesce(sum(size), 0)::bigint AS bytes, count(*) AS blobs FROM cas_blobs
WHERE store = $1 AND accessed > $2";

const TOTALS: &str = "
SELECT coalesce(sum(bytes), 0)::bigint AS bytes, coalesce(sum(blobs), 0)::bigint AS blobs
FROM cas_totals WHERE store = $1";

/// The index in a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresIndex {
    pool: PgPool,
    options: SqlIndexOptions,
}

impl PostgresIndex {
    /// The index over `pool`.
    #[must_use]
    pub fn new(pool: PgPool, options: SqlIndexOptions) -> Self {
        Self { pool, options }
    }

    fn error(&self, source: &sqlx::Error) -> StoreError {
        error(&self.options.name, source)
    }

    fn store(&self) -> &str {
        &self.options.store
    }

    fn digests<C: FromIterator<Digest>>(
        &self,
        rows: Result<Vec<PgRow>, sqlx::Error>,
    ) -> Result<C, StoreError> {
        let rows = rows.map_err(|source| self.error(&source))?;
        let parse = |row: &PgRow| {
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
        let query = sqlx::query(PRESENT).bind(self.store()).bind(keys(digests)).bind(at.0).bind(stale.0);
        self.digests(query.fetch_all(&self.pool).await)
    }

    fn pinned_of(&self, rows: Result<Vec<PgRow>, sqlx::Error>) -> Result<Vec<Pinned>, StoreError> {
        let rows = rows.map_err(|source| self.error(&source))?;
        let until = |row: &PgRow| row.try_get(2).map(Timestamp).map_err(|source| self.error(&source));
        let untils: Vec<Timestamp> = rows.iter().map(until).collect::<Result<_, _>>()?;
        let digests: Vec<Digest> = self.digests(Ok(rows))?;
        Ok(digests.into_iter().zip(untils).map(|(digest, until)| Pinned { digest, until }).collect())
    }

    fn totals_of(&self, row: Result<(i64, i64), sqlx::Error>) -> Result<Totals, StoreError> {
        let (bytes, blobs) = row.map_err(|source| self.error(&source))?;
        Ok(Totals { bytes: unsigned(bytes), blobs: unsigned(blobs) })
    }
}

fn keys(digests: &[Digest]) -> Vec<Vec<u8>> {
    digests.iter().map(key).collect()
}

/// Which part of the totals a statement adds to.
pub(crate) fn part() -> i16 {
    rand::rng().random_range(0..PARTS)
}

#[async_trait]
impl BlobIndex for PostgresIndex {
    async fn present(&self, digests: &[Digest], now: Timestamp) -> Result<DigestSet, StoreError> {
        self.used(digests, now, now.before(self.options.precision)).await
    }

    fn precision(&self) -> Duration {
        self.options.precision
    }

    async fn contents(&self, digests: &[Digest]) -> Result<Vec<(Digest, Bytes)>, StoreError> {
        let rows = sqlx::query(CONTENTS).bind(self.store()).bind(keys(digests)).fetch_all(&self.pool).await;
        let rows = rows.map_err(|source| self.error(&source))?;
        let data =
            |row: &PgRow| row.try_get::<Vec<u8>, _>(2).map(Bytes::from).map_err(|source| self.error(&source));
        let contents: Vec<Bytes> = rows.iter().map(data).collect::<Result<_, _>>()?;
        let digests: Vec<Digest> = self.digests(Ok(rows))?;
        Ok(digests.into_iter().zip(contents).collect())
    }

    async fn insert(&self, blobs: &[NewBlob], now: Timestamp) -> Result<DigestSet, StoreError> {
        let keys: Vec<Vec<u8>> = blobs.iter().map(|blob| key(&blob.digest)).collect();
        let sizes: Vec<i64> = blobs.iter().map(|blob| blob.digest.size_signed()).collect();
        let data: Vec<Option<&[u8]>> = blobs.iter().map(|blob| blob.content.as_deref()).collect();
        let query =
            sqlx::query(INSERT).bind(self.store()).bind(keys).bind(sizes).bind(data).bind(now.0).bind(part());
        self.digests(query.fetch_all(&self.pool).await)
    }

    async fn adopt(
        &self,
        digests: &[Digest],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<DigestSet, StoreError> {
        let sizes: Vec<i64> = digests.iter().map(Digest::size_signed).collect();
        let query = sqlx::query(ADOPT).bind(self.store()).bind(keys(digests)).bind(sizes);
        let query = query.bind(now.0).bind(until.0).bind(part());
        self.digests(query.fetch_all(&self.pool).await)
    }

    async fn noted(&self, digests: &[Digest]) -> Result<DigestSet, StoreError> {
        let query = sqlx::query(NOTED).bind(self.store()).bind(keys(digests));
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
        let query = sqlx::query(CLAIMED).bind(self.store()).bind(keys(digests)).bind(now.0);
        self.digests(query.fetch_all(&self.pool).await)
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Digest>, StoreError> {
        let (size, since) = claim.large.unwrap_or((u64::MAX, Timestamp(i64::MIN)));
        let query = sqlx::query(CLAIM)
            .bind(self.store())
            .bind(claim.unused_since.0)
            .bind(signed(size))
            .bind(since.0)
            .bind(signed(claim.bytes))
            .bind(signed(claim.blobs))
            .bind(claim.now.0)
            .bind(claim.until.0);
        self.digests(query.fetch_all(&self.pool).await)
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
        let query = sqlx::query(CLAIM_THESE).bind(self.store()).bind(keys(digests)).bind(now.0).bind(until.0);
        self.digests(query.fetch_all(&self.pool).await)
    }

    async fn forget(&self, digests: &[Digest], until: Timestamp) -> Result<Totals, StoreError> {
        let query = sqlx::query_as(FORGET).bind(self.store()).bind(keys(digests)).bind(until.0).bind(part());
        self.totals_of(query.fetch_one(&self.pool).await)
    }

    async fn release(&self, digests: &[Digest], until: Timestamp) -> Result<(), StoreError> {
        let query = sqlx::query(RELEASE).bind(self.store()).bind(keys(digests)).bind(until.0);
        query.execute(&self.pool).await.map(drop).map_err(|source| self.error(&source))
    }

    async fn pin(&self, digests: &[Digest], until: Timestamp) -> Result<DigestSet, StoreError> {
        self.used(digests, until, until).await
    }

    async fn unpin(&self, digests: &[Digest], now: Timestamp) -> Result<DigestSet, StoreError> {
        let query = sqlx::query(UNPIN).bind(self.store()).bind(keys(digests)).bind(now.0);
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

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        let time = sqlx::query_scalar(TIME).fetch_one(&self.pool).await;
        time.map(|time| Some(Timestamp(time))).map_err(|source| self.error(&source))
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        self.totals_of(sqlx::query_as(TOTALS).bind(self.store()).fetch_one(&self.pool).await)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let query = sqlx::query("SELECT 1 FROM cas_totals LIMIT 1");
        query.fetch_optional(&self.pool).await.map(drop).map_err(|source| self.error(&source))
    }
}
