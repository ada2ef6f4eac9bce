//! `existence_cache`: remembers for a while that a blob is there, and spares the store the question.
//!
//! Absence is never remembered, and a deletion through this object is known at once. A deletion by another process is
//! not, and an answer from here is no use that the store sees: whoever cleans there keeps blobs for the time to live
//! longer than was promised (`compose/remembered.rs` of the server).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use grid_core::Digest;
use moka::sync::Cache;

use crate::content;
use crate::observer::{SharedObserver, StoreEvent};
use crate::{BlobStore, ByteRange, ByteStream, SharedStore, StoreError};

/// How an [`ExistenceCache`] is made.
#[derive(Clone, Debug)]
pub struct ExistenceCacheOptions {
    /// How many digests to remember at most; each takes about 200 bytes.
    pub entries: u64,
    /// How long to remember one.
    pub time_to_live: Duration,
    /// Who is told of hits and misses.
    pub observer: SharedObserver,
}

/// A store whose blobs' existence is remembered.
#[derive(Debug)]
pub struct ExistenceCache {
    inner: SharedStore,
    known: Cache<Digest, (), foldhash::fast::RandomState>,
    /// Counts deletions, so that an answer from before one is not remembered after it.
    deletions: AtomicU64,
    observer: SharedObserver,
}

impl ExistenceCache {
    /// Remembers what is in `inner`.
    #[must_use]
    pub fn new(inner: SharedStore, options: ExistenceCacheOptions) -> Self {
        let known = Cache::builder()
            .max_capacity(options.entries)
            .time_to_live(options.time_to_live)
            .build_with_hasher(foldhash::fast::RandomState::default());
        Self { inner, known, deletions: AtomicU64::new(0), observer: options.observer }
    }

    fn epoch(&self) -> u64 {
        self.deletions.load(Ordering::SeqCst)
    }

    /// Remembers blobs that were there in `epoch`, unless something was deleted since.
    fn remember<'a>(&self, epoch: u64, digests: impl Iterator<Item = &'a Digest>) {
        for digest in digests {
            self.known.insert(*digest, ());
            if self.epoch() != epoch {
                self.known.invalidate(digest);
                return;
            }
        }
    }

    fn forget<T>(&self, digest: &Digest, answer: &Result<T, StoreError>) {
        if matches!(answer, Err(StoreError::NotFound(_) | StoreError::Corrupt { .. })) {
            self.known.invalidate(digest);
        }
    }
}

#[async_trait]
impl BlobStore for ExistenceCache {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let epoch = self.epoch();
        let unknown = content::missing_of(digests, |digest| self.known.get(digest).is_some());
        let (hits, misses) = ((digests.len() - unknown.len()) as u64, unknown.len() as u64);
        self.observer.event("existence_cache", StoreEvent::Cache { hits, misses });
        if unknown.is_empty() {
            return Ok(unknown);
        }
        let missing = self.inner.find_missing(&unknown).await?;
        let absent: content::DigestSet = missing.iter().copied().collect();
        self.remember(epoch, unknown.iter().filter(|digest| !absent.contains(*digest)));
        Ok(missing)
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        let answer = self.inner.read(digest, range).await;
        self.forget(digest, &answer);
        answer
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        let epoch = self.epoch();
        self.inner.write(digest, content).await?;
        self.remember(epoch, std::iter::once(digest));
        Ok(())
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        let answers = self.inner.read_batch(digests).await;
        digests.iter().zip(&answers).for_each(|(digest, answer)| self.forget(digest, answer));
        answers
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let epoch = self.epoch();
        let digests: Vec<_> = blobs.iter().map(|(digest, _)| *digest).collect();
        let answers = self.inner.write_batch(blobs).await;
        self.remember(
            epoch,
            digests.iter().zip(&answers).filter(|(_, answer)| answer.is_ok()).map(|(d, _)| d),
        );
        answers
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        // Before, for nobody may be told that it is there from now on; and after, for those who asked meanwhile.
        self.deletions.fetch_add(1, Ordering::SeqCst);
        digests.iter().for_each(|digest| self.known.invalidate(digest));
        let answers = self.inner.delete(digests).await;
        self.deletions.fetch_add(1, Ordering::SeqCst);
        digests.iter().for_each(|digest| self.known.invalidate(digest));
        answers
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.inner.probe().await
    }
}
