//! `!sql-storage`: blobs in a database, in parts of 1 MiB, up to 1 GiB; larger ones are refused with that limit.
//!
//! What was acknowledged is as durable as the database's commits. A blob's parts are written first, each by itself, so that
//! no transaction waits for a slow sender; then one statement names the blob. Of several writers at once the first stays. A
//! database that is away is waited for. Parts that a writer left when it died are removed a day later.

mod listing;
mod postgres;
mod sqlite;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use futures::stream;
use grid_core::{Clock, Digest, Timestamp};
use uuid::Uuid;

use self::postgres::PostgresRows;
use self::sqlite::SqliteRows;
use crate::content::{self, DigestMap, DigestSet, is_empty_blob};
use crate::inventory::Stored;
use crate::sql::{SqlPool, digest, key};
use crate::wait::until_available;
use crate::{BlobStore, ByteRange, ByteStream, StoreError};

/// How many bytes a part has; the last one may have fewer.
const PART: usize = 1 << 20;
/// The largest blob, in bytes.
const LIMIT: u64 = 1 << 30;
/// How many digests one statement names.
const WINDOW: usize = 10_000;
/// How long parts that no blob names are left for their writer.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);
/// How often a writer looks for abandoned parts.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// A blob's row.
#[derive(Clone, Copy, Debug)]
struct Value {
    size: u64,
    content: Uuid,
}

/// A whole small blob, in one part.
#[derive(Debug)]
struct Small {
    digest: Digest,
    content: Uuid,
    data: Bytes,
}

/// The blob of a row with its key, its size, and when its first part was written.
fn stored_of(name: &Arc<str>, (key, size, since): (Vec<u8>, i64, i64)) -> Result<Stored, StoreError> {
    Ok(Stored { digest: digest(name, &key, size)?, since: Timestamp(since) })
}

/// The statements. Each call is one transaction.
#[async_trait]
trait Rows: std::fmt::Debug + Send + Sync {
    async fn present(&self, digests: &[Digest]) -> Result<DigestSet, StoreError>;
    async fn value(&self, key: &[u8]) -> Result<Option<Value>, StoreError>;
    async fn part(&self, content: Uuid, part: i32) -> Result<Option<Bytes>, StoreError>;
    /// The blobs that have one part, each with it.
    async fn small(&self, digests: &[Digest]) -> Result<Vec<(Digest, Bytes)>, StoreError>;
    async fn put_part(&self, content: Uuid, part: i32, data: &[u8], now: i64) -> Result<(), StoreError>;
    /// Names the blob where it has no name; tells whether this was done.
    async fn name(&self, digest: &Digest, content: Uuid) -> Result<bool, StoreError>;
    async fn put_small(&self, blobs: &[Small], now: i64) -> Result<(), StoreError>;
    async fn drop_parts(&self, content: Uuid) -> Result<(), StoreError>;
    async fn delete(&self, digests: &[Digest]) -> Result<(), StoreError>;
    async fn drop_abandoned(&self, before: i64) -> Result<(), StoreError>;
    /// So many blobs in the order of their keys, from after this one on.
    async fn list(&self, after: &[u8], limit: usize) -> Result<Vec<Stored>, StoreError>;
    async fn stored(&self, digests: &[Digest]) -> Result<Vec<Stored>, StoreError>;
    async fn probe(&self) -> Result<(), StoreError>;
}

/// Blobs in a database.
#[derive(Clone, Debug)]
pub struct Sql {
    rows: Arc<dyn Rows>,
    clock: Arc<dyn Clock>,
    name: Arc<str>,
    /// When abandoned parts were last looked for.
    looked: Arc<AtomicI64>,
}

impl Sql {
    /// The storage in this database; `name` is its place in the configuration, for errors.
    #[must_use]
    pub fn new(pool: SqlPool, clock: Arc<dyn Clock>, name: Arc<str>) -> Self {
        let of = Arc::clone(&name);
        let rows: Arc<dyn Rows> = match pool {
            SqlPool::Postgres(pool) => Arc::new(PostgresRows { pool, name: of }),
            SqlPool::Sqlite(pool) => Arc::new(SqliteRows { pool, name: of }),
        };
        Self { rows, clock, name, looked: Arc::default() }
    }

    fn check_size(&self, digest: &Digest) -> Result<(), StoreError> {
        if digest.size() <= LIMIT {
            return Ok(());
        }
        Err(StoreError::TooLarge { digest: *digest, limit: LIMIT, backend: Arc::clone(&self.name) })
    }

    async fn write_parts(&self, digest: &Digest, content: ByteStream, id: Uuid) -> Result<(), StoreError> {
        let mut content = content::exact(*digest, content);
        let (mut held, mut part) =
            (BytesMut::with_capacity(usize::try_from(digest.size()).unwrap_or(PART).min(PART)), 0);
        while let Some(mut piece) = content.try_next().await? {
            while !piece.is_empty() {
                held.extend_from_slice(&piece.split_to(piece.len().min(PART - held.len())));
                if held.len() == PART {
                    self.put_part(id, part, &held).await?;
                    held.clear();
                    part += 1;
                }
            }
        }
        if !held.is_empty() {
            self.put_part(id, part, &held).await?;
        }
        Ok(())
    }

    async fn put_part(&self, id: Uuid, part: i32, data: &[u8]) -> Result<(), StoreError> {
        until_available(|| self.rows.put_part(id, part, data, self.clock.now().0)).await
    }

    /// Names the blob, or drops its parts where another writer was first.
    async fn finish(&self, digest: &Digest, id: Uuid) -> Result<(), StoreError> {
        // A name that was given by an attempt whose answer was lost counts as given: `name` compares the content.
        if !until_available(|| self.rows.name(digest, id)).await? {
            until_available(|| self.rows.drop_parts(id)).await?;
        }
        self.look_for_abandoned();
        Ok(())
    }

    fn look_for_abandoned(&self) {
        let now = self.clock.now();
        let looked = self.looked.load(Ordering::Relaxed);
        let due = now.0 - looked >= i64::try_from(LOOK_EVERY.as_micros()).unwrap_or(i64::MAX);
        let ours = self.looked.compare_exchange(looked, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if due && ours {
            let rows = Arc::clone(&self.rows);
            tokio::spawn(async move {
                if let Err(error) = rows.drop_abandoned(now.before(ABANDONED).0).await {
                    tracing::warn!(%error, "abandoned parts of blobs could not be removed");
                }
            });
        }
    }

    async fn read_whole(&self, digest: &Digest) -> Result<Bytes, StoreError> {
        let content = self.read(digest, ByteRange::default()).await?;
        content::collect(digest, content).await
    }
}

/// Where a read is.
struct Reading {
    rows: Arc<dyn Rows>,
    digest: Digest,
    content: Uuid,
    position: u64,
    end: u64,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        if self.position == self.end {
            return Ok(None);
        }
        let index = self.position / PART as u64;
        let part = i32::try_from(index).unwrap_or(i32::MAX);
        let data = until_available(|| self.rows.part(self.content, part)).await?;
        // It was deleted while it was read.
        let data = data.ok_or(StoreError::NotFound(self.digest))?;
        let start = index * PART as u64;
        let from = usize::try_from(self.position - start).unwrap_or(usize::MAX).min(data.len());
        let to = usize::try_from(self.end - start).unwrap_or(usize::MAX).min(data.len());
        if from >= to {
            return Err(StoreError::NotFound(self.digest));
        }
        self.position = start + to as u64;
        Ok(Some((data.slice(from..to), self)))
    }
}

#[async_trait]
impl BlobStore for Sql {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let mut present = DigestSet::default();
        for window in digests.chunks(WINDOW) {
            present.extend(until_available(|| self.rows.present(window)).await?);
        }
        Ok(content::missing_of(digests, |digest| present.contains(digest)))
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        let (position, end) = content::bounds(digest, range)?;
        if is_empty_blob(digest) {
            return Ok(content::from_bytes(Bytes::new()));
        }
        let key = key(digest);
        let value = until_available(|| self.rows.value(&key)).await?;
        // The key does not tell the size: another one is another blob.
        let value = value.filter(|value| value.size == digest.size());
        let content = value.ok_or(StoreError::NotFound(*digest))?.content;
        let reading = Reading { rows: Arc::clone(&self.rows), digest: *digest, content, position, end };
        Ok(Box::pin(stream::try_unfold(reading, Reading::next)))
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        self.check_size(digest)?;
        if self.find_missing(&[*digest]).await?.is_empty() {
            return Ok(());
        }
        let (id, began) = (Uuid::new_v4(), self.clock.now());
        let mut written = self.write_parts(digest, content, id).await;
        if self.clock.now().since(began) > ABANDONED / 2 {
            written = Err(StoreError::Interrupted("the upload took too long".into()));
        }
        if let Err(error) = written {
            // What can't be dropped now is dropped as abandoned.
            let _ = self.rows.drop_parts(id).await;
            return Err(error);
        }
        self.finish(digest, id).await
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        let small: Vec<Digest> =
            digests.iter().filter(|digest| digest.size() <= PART as u64).copied().collect();
        let mut found = DigestMap::default();
        for window in small.chunks(WINDOW) {
            match until_available(|| self.rows.small(window)).await {
                Ok(blobs) => found.extend(blobs),
                Err(error) => return vec![Err(error); digests.len()],
            }
        }
        let mut answers = Vec::with_capacity(digests.len());
        for digest in digests {
            answers.push(match found.get(digest) {
                Some(bytes) => Ok(bytes.clone()),
                None if is_empty_blob(digest) => Ok(Bytes::new()),
                None if digest.size() <= PART as u64 => Err(StoreError::NotFound(*digest)),
                None => self.read_whole(digest).await,
            });
        }
        answers
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let digests: Vec<Digest> = blobs.iter().map(|(digest, _)| *digest).collect();
        let (good, wrong) = content::sized(blobs);
        let (small, large): (Vec<_>, Vec<_>) = good.into_iter().partition(|(_, bytes)| bytes.len() <= PART);
        let mut answers = DigestMap::default();
        let small: Vec<Small> =
            small.into_iter().map(|(digest, data)| Small { digest, content: Uuid::new_v4(), data }).collect();
        for window in small.chunks(WINDOW) {
            let put = until_available(|| self.rows.put_small(window, self.clock.now().0)).await;
            answers.extend(window.iter().map(|blob| (blob.digest, put.clone())));
        }
        for (digest, bytes) in large {
            answers.insert(digest, self.write(&digest, content::from_bytes(bytes)).await);
        }
        content::answers(&digests, &answers, wrong)
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        for window in digests.chunks(WINDOW) {
            if let Err(error) = until_available(|| self.rows.delete(window)).await {
                return vec![Err(error); digests.len()];
            }
        }
        vec![Ok(()); digests.len()]
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.rows.probe().await
    }
}
