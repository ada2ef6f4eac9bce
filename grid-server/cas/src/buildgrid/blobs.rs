//! Copies the blobs of BuildGrid's `!sql-storage`, the table `blobs`, to a storage of ours.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use grid_core::{Coded, Digest};
use sqlx::PgPool;

use super::digest_of;
use crate::decorators::verify::Verify;
use crate::groups::within;
use crate::index::Totals;
use crate::sql::{error, unsigned};
use crate::{BlobStore, ByteStream, SharedStore, StoreError};

/// How many blobs are asked for at a time.
const PAGE: i64 = 5_000;
/// How many bytes are read at a time.
const BATCH: u64 = 4 << 20;

const THERE: &str = "SELECT to_regclass('public.blobs') IS NOT NULL";
const ROWS: &str = "SELECT count(*) FROM public.blobs";
const LIST: &str = "
SELECT digest_hash, digest_size_bytes FROM public.blobs WHERE digest_hash > $1 ORDER BY digest_hash LIMIT $2";
const DATA: &str = "SELECT digest_hash, data FROM public.blobs WHERE digest_hash = ANY($1)";
const PIECE: &str = "SELECT substring(data FROM $2 FOR $3) FROM public.blobs WHERE digest_hash = $1";

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// How many blobs BuildGrid's table has.
    pub rows: u64,
    /// What of that our storage had not.
    pub new: Totals,
    /// How many could not be copied, for they don't match their digests or are too large.
    pub broken: u64,
}

impl std::fmt::Display for Copied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rows, new, broken } = self;
        write!(f, "of {rows} blobs in BuildGrid's table, {new} were copied")?;
        if *broken > 0 {
            write!(f, "; {broken} are damaged or too large, and were left out")?;
        }
        Ok(())
    }
}

/// How many blobs BuildGrid has in the database `pool`, which is called `name` in errors; `None` where there is no such table.
///
/// # Errors
/// The database's trouble.
pub async fn blob_rows(pool: &PgPool, name: &Arc<str>) -> Result<Option<u64>, StoreError> {
    let there: Result<bool, _> = sqlx::query_scalar(THERE).fetch_one(pool).await;
    if !there.map_err(|source| error(name, &source))? {
        return Ok(None);
    }
    let rows: Result<i64, _> = sqlx::query_scalar(ROWS).fetch_one(pool).await;
    rows.map(|rows| Some(unsigned(rows))).map_err(|source| error(name, &source))
}

/// Copies what BuildGrid has in the database `pool`, which is called `name` in errors, and `store` has not. `None` where
/// there is no such table.
///
/// # Errors
/// The trouble of the database and the storage.
pub async fn import_blobs(
    pool: &PgPool,
    name: &Arc<str>,
    store: &SharedStore,
) -> Result<Option<Copied>, StoreError> {
    if blob_rows(pool, name).await?.is_none() {
        return Ok(None);
    }
    let into = Arc::new(Verify::new(Arc::clone(store)));
    let mut copy = Copy { pool, name, into, done: Copied::default() };
    let mut after = String::new();
    loop {
        let page = sqlx::query_as(LIST).bind(&after).bind(PAGE).fetch_all(pool).await;
        let page: Vec<(String, i64)> = page.map_err(|source| error(name, &source))?;
        let Some((last, _)) = page.last() else { return Ok(Some(copy.done)) };
        after.clone_from(last);
        copy.page(&page).await?;
    }
}

struct Copy<'a> {
    pool: &'a PgPool,
    name: &'a Arc<str>,
    into: Arc<Verify>,
    done: Copied,
}

impl Copy<'_> {
    async fn page(&mut self, page: &[(String, i64)]) -> Result<(), StoreError> {
        let digests: Vec<Digest> = page.iter().filter_map(|(hash, size)| digest_of(hash, *size)).collect();
        self.done.rows += page.len() as u64;
        self.done.broken += (page.len() - digests.len()) as u64;
        let missing = self.into.find_missing(&digests).await?;
        for group in within(missing, BATCH, Digest::size) {
            match group.as_slice() {
                [large] if large.size() > BATCH => {
                    let answer = self.into.write(large, self.pieces(*large)).await;
                    self.note(large, answer)?;
                }
                small => self.batch(small).await?,
            }
        }
        Ok(())
    }

    async fn batch(&mut self, digests: &[Digest]) -> Result<(), StoreError> {
        let hashes: Vec<String> = digests.iter().map(Digest::hash_hex).collect();
        let rows = sqlx::query_as(DATA).bind(&hashes).fetch_all(self.pool).await;
        let rows: Vec<(String, Vec<u8>)> = rows.map_err(|source| error(self.name, &source))?;
        let mut contents: std::collections::HashMap<String, Vec<u8>> = rows.into_iter().collect();
        let blobs: Vec<(Digest, Bytes)> = digests
            .iter()
            .zip(&hashes)
            .filter_map(|(digest, hash)| Some((*digest, contents.remove(hash)?.into())))
            .collect();
        let read: Vec<Digest> = blobs.iter().map(|(digest, _)| *digest).collect();
        for (digest, answer) in read.iter().zip(self.into.write_batch(blobs).await) {
            self.note(digest, answer)?;
        }
        Ok(())
    }

    fn note(&mut self, digest: &Digest, answer: Result<(), StoreError>) -> Result<(), StoreError> {
        match answer {
            Ok(()) => self.done.new = self.done.new.plus(Totals::of([digest])),
            Err(error) if error.code().is_transient() => return Err(error),
            Err(error) => {
                tracing::warn!(%digest, %error, "a blob of BuildGrid's table was not copied");
                self.done.broken += 1;
            }
        }
        Ok(())
    }

    /// A large blob, piece by piece.
    fn pieces(&self, digest: Digest) -> ByteStream {
        let (pool, name) = (self.pool.clone(), Arc::clone(self.name));
        Box::pin(stream::try_unfold(0_i32, move |at| {
            let (pool, name) = (pool.clone(), Arc::clone(&name));
            async move {
                let piece = i32::try_from(BATCH).unwrap_or(i32::MAX);
                let query = sqlx::query_scalar(PIECE).bind(digest.hash_hex()).bind(at + 1).bind(piece);
                let read: Option<Vec<u8>> =
                    query.fetch_optional(&pool).await.map_err(|source| error(&name, &source))?;
                let read = Bytes::from(read.unwrap_or_default());
                let next = at.saturating_add(i32::try_from(read.len()).unwrap_or(i32::MAX));
                Ok((!read.is_empty()).then_some((read, next)))
            }
        }))
    }
}
