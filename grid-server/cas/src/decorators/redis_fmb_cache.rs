//! `!redis-fmb-cache`: remembers in Redis for a while that a blob is there, for all servers that share it, and spares the
//! storage the question. Keys are BuildGrid's: `{prefix}:{hash}_{size}`.
//!
//! Absence is never remembered. Trouble of Redis costs speed, nothing else (one that is away is asked once in a while, and
//! not waited for), with one exception: what can't be forgotten
//! is not deleted, since others would go on saying that it is there. A deletion that goes past this object (cleanup's, of
//! what is behind) is not known: that keeps blobs for the time to live longer than was promised.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use grid_core::Digest;

use crate::breaker::Breaker;
use crate::content::{self, DigestSet};
use crate::observer::{SharedObserver, StoreEvent};
use crate::redis_client::{RedisConnection, keys};
use crate::{BlobStore, ByteRange, ByteStream, SharedStore, StoreError};

const LABEL: &str = "redis_fmb_cache";
/// BuildGrid's value for a blob that is there.
const EXISTS: &str = "1";
/// How many keys one command names.
const KEYS: usize = 1_000;

/// How a [`RedisFmbCache`] is made.
#[derive(Clone, Debug)]
pub struct RedisFmbCacheOptions {
    /// How long to remember (`ttl-secs`).
    pub time_to_live: Duration,
    /// What the keys start with (`prefix`).
    pub prefix: String,
    /// Who is told of hits and misses.
    pub observer: SharedObserver,
}

/// A storage whose blobs' existence is remembered in Redis.
#[derive(Debug)]
pub struct RedisFmbCache {
    inner: SharedStore,
    connection: Arc<RedisConnection>,
    breaker: Breaker<StoreError>,
    options: RedisFmbCacheOptions,
}

impl RedisFmbCache {
    /// Remembers what is in `inner`.
    #[must_use]
    pub fn new(inner: SharedStore, connection: Arc<RedisConnection>, options: RedisFmbCacheOptions) -> Self {
        Self { inner, connection, breaker: Breaker::default(), options }
    }

    fn key(&self, digest: &Digest) -> String {
        keys::prefixed(&self.options.prefix, digest)
    }

    /// Those of `digests` that are remembered.
    async fn known(&self, digests: &[Digest]) -> Result<DigestSet, StoreError> {
        let mut known = DigestSet::default();
        for part in digests.chunks(KEYS) {
            let keys: Vec<String> = part.iter().map(|digest| self.key(digest)).collect();
            let mut pipeline = redis::pipe();
            let asked = self.connection.attempt(pipeline.mget(keys));
            let (values,): (Vec<Option<String>>,) = self.breaker.call(asked).await?;
            let there = part.iter().zip(values).filter(|(_, value)| value.as_deref() == Some(EXISTS));
            known.extend(there.map(|(digest, _)| *digest));
        }
        Ok(known)
    }

    async fn remember(&self, digests: &[Digest]) {
        let seconds = self.options.time_to_live.as_secs().max(1);
        for part in digests.chunks(KEYS) {
            let mut pipeline = redis::pipe();
            for digest in part {
                pipeline.set_ex(self.key(digest), EXISTS, seconds).ignore();
            }
            log_trouble(self.breaker.call(self.connection.attempt::<()>(&pipeline)).await);
        }
    }

    async fn forget(&self, digests: &[Digest]) -> Result<(), StoreError> {
        for part in digests.chunks(KEYS) {
            let keys: Vec<String> = part.iter().map(|digest| self.key(digest)).collect();
            self.connection.attempt::<()>(redis::pipe().unlink(keys).ignore()).await?;
        }
        Ok(())
    }
}

fn is_lost<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::NotFound(_) | StoreError::Corrupt { .. }))
}

fn log_trouble(answer: Result<(), StoreError>) {
    if let Err(error) = answer {
        tracing::warn!(%error, "the memory of what exists failed");
    }
}

#[async_trait]
impl BlobStore for RedisFmbCache {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let asked = content::missing_of(digests, |_| false);
        let known = self.known(&asked).await.unwrap_or_else(|error| {
            log_trouble(Err(error));
            DigestSet::default()
        });
        let unknown = content::missing_of(&asked, |digest| known.contains(digest));
        let (hits, misses) = ((asked.len() - unknown.len()) as u64, unknown.len() as u64);
        self.options.observer.event(LABEL, StoreEvent::Cache { hits, misses });
        if unknown.is_empty() {
            return Ok(unknown);
        }
        let missing = self.inner.find_missing(&unknown).await?;
        let absent: DigestSet = missing.iter().copied().collect();
        let found = content::missing_of(&unknown, |digest| absent.contains(digest));
        self.remember(&found).await;
        Ok(missing)
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        let answer = self.inner.read(digest, range).await;
        if is_lost(&answer) {
            log_trouble(self.forget(&[*digest]).await);
        }
        answer
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        self.inner.write(digest, content).await?;
        self.remember(&[*digest]).await;
        Ok(())
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        let answers = self.inner.read_batch(digests).await;
        let lost = digests.iter().zip(&answers).filter(|(_, answer)| is_lost(answer));
        log_trouble(self.forget(&lost.map(|(digest, _)| *digest).collect::<Vec<_>>()).await);
        answers
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let digests: Vec<Digest> = blobs.iter().map(|(digest, _)| *digest).collect();
        let answers = self.inner.write_batch(blobs).await;
        let stored = digests.into_iter().zip(&answers).filter(|(_, answer)| answer.is_ok());
        self.remember(&stored.map(|(digest, _)| digest).collect::<Vec<_>>()).await;
        answers
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        // Before, for nobody may be told that it is there from now on; and after, for those who asked meanwhile.
        if let Err(error) = self.forget(digests).await {
            return vec![Err(error); digests.len()];
        }
        let answers = self.inner.delete(digests).await;
        match self.forget(digests).await {
            Ok(()) => answers,
            Err(error) => vec![Err(error); digests.len()],
        }
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.inner.probe().await
    }
}
