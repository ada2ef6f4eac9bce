//! `!with-cache-storage`: a fast store in front of one that has everything.
//!
//! Existence is always asked of the fallback, which alone says what is there. Reads go to the cache first and fill it;
//! writes go to both. Trouble of the cache is logged and costs speed, nothing else: nobody waits for one that is away. With
//! deferred writes a blob is acknowledged once it is in the cache: until it has been written to the fallback it is as
//! durable as the cache. What the cache does not take is written to the fallback before it is acknowledged.

mod deferred;
mod journal;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{Either, join, join_all, select};
use futures::stream::{self, StreamExt};
use grid_core::Digest;

use self::deferred::Deferred;
pub use self::journal::Journal;
use crate::breaker::Guarded;
use crate::content::{self, DigestSet};
use crate::fan_out::{Until, copy_aside, fan_out};
use crate::lend::lend;
use crate::observer::{SharedObserver, StoreEvent};
use crate::{BlobStore, ByteRange, ByteStream, SharedStore, StoreError};

const LABEL: &str = "with_cache";
/// How much longer than the fallback the cache may take for a write.
const GRACE: Duration = Duration::from_secs(2);

/// How a [`WithCache`] is made.
#[derive(Clone, Debug)]
pub struct WithCacheOptions {
    /// Whether a write is acknowledged once it is in the cache (`defer-fallback-writes`).
    pub defer_fallback_writes: bool,
    /// How many deferred writes are made at a time (`fallback-writer-threads`, 20 by default).
    pub fallback_writers: usize,
    /// How many bytes of blobs may wait to be written; further ones are written before they are acknowledged.
    pub deferred_bytes: u64,
    /// Where it is noted what waits, if the cache outlives the process.
    pub journal: Option<Journal>,
    /// Who is told of hits, misses and the queue.
    pub observer: SharedObserver,
}

/// A cache and what it is a cache of.
#[derive(Debug)]
pub struct WithCache {
    cache: Arc<Guarded>,
    fallback: SharedStore,
    deferred: Option<Arc<Deferred>>,
    observer: SharedObserver,
}

impl WithCache {
    /// Puts `cache` in front of `fallback`. What the journal says is left is written soon, and is there until then.
    ///
    /// # Errors
    /// Where the journal can't be read.
    pub async fn open(
        cache: SharedStore,
        fallback: SharedStore,
        options: WithCacheOptions,
    ) -> Result<Self, StoreError> {
        let made = Self::new(cache, fallback, options);
        if let Some(deferred) = &made.deferred {
            deferred.replay().await?;
        }
        Ok(made)
    }

    /// Puts `cache` in front of `fallback`; what a journal says is left, is left.
    #[must_use]
    pub fn new(cache: SharedStore, fallback: SharedStore, options: WithCacheOptions) -> Self {
        let WithCacheOptions { defer_fallback_writes, fallback_writers, deferred_bytes, journal, observer } =
            options;
        let stores = (Arc::clone(&cache), Arc::clone(&fallback));
        let deferred = defer_fallback_writes
            .then(|| Deferred::new(stores, deferred_bytes, fallback_writers, journal, Arc::clone(&observer)));
        Self { cache: Arc::new(Guarded::new(cache)), fallback, deferred, observer }
    }

    fn count(&self, hits: usize, misses: usize) {
        self.observer.event(LABEL, StoreEvent::Cache { hits: hits as u64, misses: misses as u64 });
    }

    /// Waits until every deferred write is made, for a process that is about to end.
    pub async fn settled(&self) {
        if let Some(deferred) = &self.deferred {
            deferred.settled().await;
        }
    }

    /// Whether a blob is there that the fallback may not have yet.
    fn waits(&self, digest: &Digest) -> bool {
        self.deferred.as_ref().is_some_and(|deferred| deferred.holds(digest))
    }

    /// Sees to it that what is in the cache gets into the fallback.
    async fn settle(&self, deferred: &Arc<Deferred>, digest: &Digest) -> Result<(), StoreError> {
        if deferred.push(vec![*digest]).await.is_empty() {
            return Ok(());
        }
        deferred.copy(digest).await?;
        deferred.made(*digest).await;
        Ok(())
    }

    async fn write_to_both(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        let (feed, mut streams) = fan_out(content, 2, Until::FirstDone);
        let (to_cache, to_fallback) = (streams.pop(), streams.pop());
        let (Some(to_cache), Some(to_fallback)) = (to_cache, to_fallback) else { return Ok(()) };
        let write = soon_both(self.fallback.write(digest, to_fallback), self.cache.write(digest, to_cache));
        let ((), (kept, cached)) = join(feed, write).await;
        match cached {
            Some(cached) if kept.is_ok() => log_trouble(digest, cached),
            Some(_) => {}
            None => tracing::warn!(%digest, "the cache in front of a storage took too long for a write"),
        }
        kept
    }

    /// Writes to the cache, and has it written to the fallback soon; at once where the cache does not take it.
    async fn defer(
        &self,
        deferred: &Arc<Deferred>,
        digest: &Digest,
        content: ByteStream,
    ) -> Result<(), StoreError> {
        let (lent, lender) = lend(content);
        let Err(error) = self.cache.write(digest, lent).await else {
            return self.settle(deferred, digest).await;
        };
        if let Some(content) = lender.take_back() {
            log_trouble(digest, Err(error));
            return self.fallback.write(digest, content).await;
        }
        match &error {
            // Part of the content is gone: the sender is asked for it again, and it goes past the cache then.
            StoreError::TooLarge { backend, .. }
            | StoreError::Full { backend, .. }
            | StoreError::Refused { backend, .. }
            | StoreError::Internal { backend, .. } => {
                self.cache.leave_alone(&error);
                let (backend, message) = (Arc::clone(backend), error.to_string());
                Err(StoreError::Unavailable { backend, message, retry_after: None })
            }
            _ => Err(error),
        }
    }

    /// The whole blob from the fallback, filling the cache on its way as long as that keeps up.
    async fn read_and_fill(&self, digest: &Digest) -> Result<ByteStream, StoreError> {
        let content = self.fallback.read(digest, ByteRange::default()).await?;
        let (content, copy) = copy_aside(content);
        let (cache, digest) = (Arc::clone(&self.cache), *digest);
        tokio::spawn(async move { log_trouble(&digest, cache.write(&digest, copy).await) });
        Ok(content)
    }

    /// Writes to the fallback what the batch write to the cache gave `answers` for.
    async fn settle_batch(
        &self,
        deferred: &Arc<Deferred>,
        blobs: Vec<(Digest, Bytes)>,
    ) -> Vec<Result<(), StoreError>> {
        let cached = self.cache.write_batch(blobs.clone()).await;
        let kept = blobs.iter().zip(&cached).filter(|(_, cached)| cached.is_ok());
        let kept: Vec<Digest> = kept.map(|((digest, _), _)| *digest).collect();
        let mut now: DigestSet = deferred.push(kept).await.into_iter().collect();
        let failed = blobs.iter().zip(&cached).filter(|(_, cached)| cached.is_err());
        now.extend(failed.map(|((digest, _), _)| *digest));
        let mut answers: Vec<Result<(), StoreError>> = vec![Ok(()); blobs.len()];
        let (places, blobs): (Vec<usize>, Vec<_>) =
            blobs.into_iter().enumerate().filter(|(_, (digest, _))| now.contains(digest)).unzip();
        for (place, answer) in places.into_iter().zip(self.fallback.write_batch(blobs).await) {
            answers[place] = answer;
        }
        let made = now.iter().filter(|digest| !deferred.holds(digest));
        join_all(made.map(|digest| deferred.made(*digest))).await;
        answers
    }
}

#[async_trait]
impl BlobStore for WithCache {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let Some(deferred) = &self.deferred else { return self.fallback.find_missing(digests).await };
        // In this order: a blob leaves the queue once it is in the fallback.
        let settled: Vec<_> = digests.iter().filter(|digest| !deferred.holds(digest)).copied().collect();
        if settled.is_empty() {
            return Ok(settled);
        }
        self.fallback.find_missing(&settled).await
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        // Asked first: a blob leaves the queue once it is in the fallback.
        let waits = self.waits(digest);
        let cached = match waits {
            true => self.cache.patient().read(digest, range).await,
            false => self.cache.read(digest, range).await,
        };
        match cached {
            Ok(content) => {
                self.count(1, 0);
                let (start, end) = content::bounds(digest, range)?;
                Ok(resuming(content, *digest, Arc::clone(&self.fallback), (start, end)))
            }
            Err(error @ StoreError::OutOfRange { .. }) => Err(error),
            Err(error) => {
                self.count(0, 1);
                log_trouble(digest, Err(error.clone()));
                let answer = if range == ByteRange::default() {
                    self.read_and_fill(digest).await
                } else {
                    self.fallback.read(digest, range).await
                };
                unless_it_waits(answer, waits, error)
            }
        }
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        let Some(deferred) = &self.deferred else { return self.write_to_both(digest, content).await };
        self.defer(deferred, digest, content).await
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        // Asked first: a blob leaves the queue once it is in the fallback.
        let waits: DigestSet = digests.iter().filter(|digest| self.waits(digest)).copied().collect();
        let mut answers = match waits.is_empty() {
            true => self.cache.read_batch(digests).await,
            false => self.cache.patient().read_batch(digests).await,
        };
        let failed: Vec<usize> = (0..answers.len()).filter(|place| answers[*place].is_err()).collect();
        self.count(answers.len() - failed.len(), failed.len());
        if failed.is_empty() {
            return answers;
        }
        let asked: Vec<Digest> = failed.iter().map(|place| digests[*place]).collect();
        let found = self.fallback.read_batch(&asked).await;
        let read = asked.iter().zip(&found).filter_map(|(d, a)| Some((*d, a.as_ref().ok()?.clone())));
        for (digest, cached) in asked.iter().zip(self.cache.write_batch(read.collect()).await) {
            log_trouble(digest, cached);
        }
        for (place, answer) in failed.into_iter().zip(found) {
            if let Err(error) = std::mem::replace(&mut answers[place], Ok(Bytes::new())) {
                answers[place] = unless_it_waits(answer, waits.contains(&digests[place]), error);
            }
        }
        answers
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        if let Some(deferred) = &self.deferred {
            return self.settle_batch(deferred, blobs).await;
        }
        let digests: Vec<_> = blobs.iter().map(|(digest, _)| *digest).collect();
        let (kept, cached) =
            soon_both(self.fallback.write_batch(blobs.clone()), self.cache.write_batch(blobs)).await;
        let cached = cached.into_iter().flatten();
        for ((digest, cached), _) in digests.iter().zip(cached).zip(&kept).filter(|(_, kept)| kept.is_ok()) {
            log_trouble(digest, cached);
        }
        kept
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        if let Some(deferred) = &self.deferred {
            join_all(digests.iter().map(|digest| deferred.give_up(digest))).await;
        }
        // In this order: a read in between could fill the cache again.
        let kept = self.fallback.delete(digests).await;
        let cached = self.cache.delete(digests).await;
        kept.into_iter().zip(cached).map(|(kept, cached)| kept.and(cached)).collect()
    }

    async fn probe(&self) -> Result<(), StoreError> {
        // Without the cache it only is slower, unless that is where acknowledged blobs wait.
        self.fallback.probe().await?;
        if self.deferred.is_some() { self.cache.patient().probe().await } else { Ok(()) }
    }
}

/// What both say; the second is not waited for long once the first is done.
async fn soon_both<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, Option<B>) {
    match select(pin!(first), pin!(second)).await {
        Either::Left((first, second)) => (first, tokio::time::timeout(GRACE, second).await.ok()),
        Either::Right((second, first)) => (first.await, Some(second)),
    }
}

/// A blob's part from the cache; where that breaks off, the rest from the fallback.
fn resuming(cached: ByteStream, digest: Digest, fallback: SharedStore, part: (u64, u64)) -> ByteStream {
    let state = (cached, Some(fallback), part);
    Box::pin(stream::try_unfold(state, move |(mut content, mut fallback, (position, end))| async move {
        let piece = match (content.next().await, fallback.take()) {
            (None, _) => return Ok(None),
            (Some(Ok(piece)), kept) => {
                fallback = kept;
                piece
            }
            (Some(Err(error)), None) => return Err(error),
            (Some(Err(error)), Some(fallback)) => {
                log_trouble(&digest, Err(error.clone()));
                let rest = ByteRange { offset: position, limit: Some(end - position) };
                let answer = fallback.read(&digest, rest).await;
                // The cache had begun to give it: it is not absent.
                content = unless_it_waits(answer, true, error)?;
                match content.next().await {
                    None => return Ok(None),
                    Some(piece) => piece?,
                }
            }
        };
        let position = position + piece.len() as u64;
        Ok(Some((piece, (content, fallback, (position, end)))))
    }))
}

/// What the fallback answered; but that it has not got a blob which waits to be written there means nothing: then it is the
/// cache's trouble that the caller is told of.
fn unless_it_waits<T>(
    answer: Result<T, StoreError>,
    waits: bool,
    cached: StoreError,
) -> Result<T, StoreError> {
    match answer {
        Err(StoreError::NotFound(_)) if waits => Err(cached),
        answer => answer,
    }
}

/// What goes wrong with the cache is for the log; that it has not got a blob is not even that.
fn log_trouble(digest: &Digest, result: Result<(), StoreError>) {
    match result {
        Ok(()) | Err(StoreError::NotFound(_) | StoreError::Interrupted(_)) => {}
        Err(error) => tracing::warn!(%digest, %error, "the cache in front of a storage failed"),
    }
}
