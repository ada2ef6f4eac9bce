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
use crate::form::Form;
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

/// A blob's key, which tells its form too.
type Key = Vec<u8>;

/// What the first byte of a packed blob's key has, beside the function's number.
const PACKED: u8 = 0x80;

/// A whole small blob, in one part.
#[derive(Debug)]
struct Small {
    key: Key,
    size: i64,
    content: Uuid,
    data: Bytes,
}

/// The statements. Each call is one transaction.
#[async_trait]
trait Rows: std::fmt::Debug + Send + Sync {
    /// The keys that there are of these, with the blobs' sizes.
    async fn present(&self, keys: &[Key]) -> Result<Vec<(Key, i64)>, StoreError>;
    async fn value(&self, key: &[u8]) -> Result<Option<Value>, StoreError>;
    async fn part(&self, content: Uuid, part: i32) -> Result<Option<Bytes>, StoreError>;
    /// As [`Rows::present`], each with its first part.
    async fn small(&self, keys: &[Key]) -> Result<Vec<(Key, i64, Vec<u8>)>, StoreError>;
    async fn put_part(&self, content: Uuid, part: i32, data: &[u8], now: i64) -> Result<(), StoreError>;
    /// Names the blob where it has no name; tells whether this was done.
    async fn name(&self, key: &[u8], size: i64, content: Uuid) -> Result<bool, StoreError>;
    async fn put_small(&self, blobs: &[Small], now: i64) -> Result<(), StoreError>;
    async fn drop_parts(&self, content: Uuid) -> Result<(), StoreError>;
    async fn delete(&self, keys: &[Key]) -> Result<(), StoreError>;
    async fn drop_abandoned(&self, before: i64) -> Result<(), StoreError>;
    /// So many rows in the order of their keys, between these two: key, size, and when the first part was written.
    async fn list(&self, after: &[u8], before: &[u8], limit: i64)
    -> Result<Vec<(Key, i64, i64)>, StoreError>;
    /// As [`Rows::list`], of these keys.
    async fn stored(&self, keys: &[Key]) -> Result<Vec<(Key, i64, i64)>, StoreError>;
    async fn probe(&self) -> Result<(), StoreError>;
}

/// Blobs in a database.
#[derive(Clone, Debug)]
pub struct Sql {
    rows: Arc<dyn Rows>,
    clock: Arc<dyn Clock>,
    name: Arc<str>,
    form: Form,
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
        Self { rows, clock, name, form: Form::Plain, looked: Arc::default() }
    }

    /// The same with its blobs in this form.
    #[must_use]
    pub fn in_form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    fn key(&self, digest: &Digest) -> Key {
        let mut key = key(digest);
        if let (Form::Packed, Some(first)) = (self.form, key.first_mut()) {
            *first |= PACKED;
        }
        key
    }

    fn keys(&self, digests: &[Digest]) -> Vec<Key> {
        digests.iter().map(|digest| self.key(digest)).collect()
    }

    /// The blob of a row of this form.
    fn blob(&self, key: &[u8], size: i64) -> Result<Digest, StoreError> {
        let mut key = key.to_vec();
        if let (Form::Packed, Some(first)) = (self.form, key.first_mut()) {
            *first &= !PACKED;
        }
        digest(&self.name, &key, size)
    }

    fn stored_of(&self, rows: Vec<(Key, i64, i64)>) -> Result<Vec<Stored>, StoreError> {
        let stored = |(key, size, since): (Key, i64, i64)| {
            Ok(Stored { digest: self.blob(&key, size)?, since: Timestamp(since) })
        };
        rows.into_iter().map(stored).collect()
    }

    /// Whether a blob has one part for certain.
    fn is_small(&self, digest: &Digest) -> bool {
        let most = match self.form {
            Form::Plain => digest.size(),
            // More than zstd makes of what it can't shrink.
            Form::Packed => digest.size().saturating_add(digest.size() / 64 + 1_024),
        };
        most <= PART as u64
    }

    fn check_size(&self, digest: &Digest) -> Result<(), StoreError> {
        if digest.size() <= LIMIT {
            return Ok(());
        }
        Err(StoreError::TooLarge { digest: *digest, limit: LIMIT, backend: Arc::clone(&self.name) })
    }

    async fn write_parts(&self, digest: &Digest, content: ByteStream, id: Uuid) -> Result<(), StoreError> {
        let mut content = self.form.checked(digest, content);
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
        let key = self.key(digest);
        if !until_available(|| self.rows.name(&key, digest.size_signed(), id)).await? {
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
        match self.form {
            Form::Plain => content::collect(digest, content).await,
            Form::Packed => Ok(content.try_collect::<Vec<Bytes>>().await?.concat().into()),
        }
    }
}

/// Where a read is.
struct Reading {
    rows: Arc<dyn Rows>,
    form: Form,
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
        let data = match (data, self.form) {
            (Some(data), _) => data,
            // The part before was full, and the last.
            (None, Form::Packed) if self.position > 0 => return Ok(None),
            // It was deleted while it was read.
            (None, _) => return Err(StoreError::NotFound(self.digest)),
        };
        if self.form == Form::Packed && data.len() < PART {
            self.end = index * PART as u64 + data.len() as u64;
        }
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
            let keys = self.keys(window);
            for (key, size) in until_available(|| self.rows.present(&keys)).await? {
                present.insert(self.blob(&key, size)?);
            }
        }
        Ok(content::missing_of(digests, |digest| present.contains(digest)))
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        let (position, end) = content::bounds(digest, range)?;
        if is_empty_blob(digest) {
            return Ok(content::from_bytes(Bytes::new()));
        }
        let key = self.key(digest);
        let end = if self.form == Form::Plain { end } else { u64::MAX };
        let value = until_available(|| self.rows.value(&key)).await?;
        // The key does not tell the size: another one is another blob.
        let value = value.filter(|value| value.size == digest.size());
        let content = value.ok_or(StoreError::NotFound(*digest))?.content;
        let (rows, form) = (Arc::clone(&self.rows), self.form);
        let reading = Reading { rows, form, digest: *digest, content, position, end };
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
        let small: Vec<Digest> = digests.iter().filter(|digest| self.is_small(digest)).copied().collect();
        let mut found = DigestMap::default();
        for window in small.chunks(WINDOW) {
            let keys = self.keys(window);
            let rows = until_available(|| self.rows.small(&keys)).await;
            let blob =
                |(key, size, data): (Key, i64, Vec<u8>)| Ok((self.blob(&key, size)?, Bytes::from(data)));
            match rows.and_then(|rows| rows.into_iter().map(blob).collect::<Result<Vec<_>, StoreError>>()) {
                Ok(blobs) => found.extend(blobs),
                Err(error) => return vec![Err(error); digests.len()],
            }
        }
        let mut answers = Vec::with_capacity(digests.len());
        for digest in digests {
            answers.push(match found.get(digest) {
                Some(bytes) => Ok(bytes.clone()),
                None if is_empty_blob(digest) => Ok(Bytes::new()),
                None if self.is_small(digest) => Err(StoreError::NotFound(*digest)),
                None => self.read_whole(digest).await,
            });
        }
        answers
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let digests: Vec<Digest> = blobs.iter().map(|(digest, _)| *digest).collect();
        let (good, wrong) = self.form.sized(blobs);
        let (small, large): (Vec<_>, Vec<_>) = good.into_iter().partition(|(_, bytes)| bytes.len() <= PART);
        let mut answers = DigestMap::default();
        for window in small.chunks(WINDOW) {
            let row = |(digest, data): &(Digest, Bytes)| Small {
                key: self.key(digest),
                size: digest.size_signed(),
                content: Uuid::new_v4(),
                data: data.clone(),
            };
            let rows: Vec<Small> = window.iter().map(row).collect();
            let put = until_available(|| self.rows.put_small(&rows, self.clock.now().0)).await;
            answers.extend(window.iter().map(|(digest, _)| (*digest, put.clone())));
        }
        for (digest, bytes) in large {
            answers.insert(digest, self.write(&digest, content::from_bytes(bytes)).await);
        }
        content::answers(&digests, &answers, wrong)
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        for window in digests.chunks(WINDOW) {
            let keys = self.keys(window);
            if let Err(error) = until_available(|| self.rows.delete(&keys)).await {
                return vec![Err(error); digests.len()];
            }
        }
        vec![Ok(()); digests.len()]
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.rows.probe().await
    }
}
