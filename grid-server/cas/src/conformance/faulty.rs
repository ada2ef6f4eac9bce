//! [`Faulty`]: a store that fails at the calls it is told to, before or after their effect, and in mid-stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use grid_core::Digest;

use crate::{BlobStore, ByteRange, ByteStream, SharedStore, StoreError};

/// When a [`Faulty`] store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call does nothing and fails.
    Before,
    /// The call does its work, and its answer is lost.
    After,
    /// The content read or written breaks off after half of it.
    Midway,
}

/// A store around another that fails at the `n`th call and works at all others.
#[derive(Debug)]
pub struct Faulty {
    inner: SharedStore,
    fault: Fault,
    countdown: AtomicU64,
}

impl Faulty {
    /// `inner`, failing in its `n`th call counted from one; zero fails never.
    #[must_use]
    pub fn new(inner: SharedStore, fault: Fault, n: u64) -> Arc<Self> {
        Arc::new(Self { inner, fault, countdown: AtomicU64::new(n) })
    }

    /// Fails again at the `n`th call from now.
    pub fn arm(&self, n: u64) {
        self.countdown.store(n, Ordering::SeqCst);
    }

    fn strikes(&self) -> bool {
        let step = |n: u64| n.checked_sub(1);
        self.countdown.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step) == Ok(1)
    }

    fn error() -> StoreError {
        StoreError::Unavailable {
            backend: "faulty".into(),
            message: "told to fail".into(),
            retry_after: None,
        }
    }

    /// The answers of a batch, each replaced by an error where the fault strikes at its place.
    fn spoil<T>(&self, answers: Vec<Result<T, StoreError>>, strikes: bool) -> Vec<Result<T, StoreError>> {
        let spoiled = |i: usize| strikes && (self.fault == Fault::After || i % 2 == 1);
        answers
            .into_iter()
            .enumerate()
            .map(|(i, a)| if spoiled(i) { Err(Self::error()) } else { a })
            .collect()
    }
}

#[async_trait]
impl BlobStore for Faulty {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        if self.strikes() {
            return Err(Self::error());
        }
        self.inner.find_missing(digests).await
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        if !self.strikes() {
            return self.inner.read(digest, range).await;
        }
        if self.fault != Fault::Midway {
            return Err(Self::error());
        }
        let half = ByteRange { limit: Some(digest.size() / 2), ..range };
        let content = self.inner.read(digest, half).await?;
        Ok(Box::pin(content.chain(stream::iter([Err(Self::error())]))))
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        if !self.strikes() {
            return self.inner.write(digest, content).await;
        }
        match self.fault {
            Fault::Before => {}
            Fault::After => self.inner.write(digest, content).await?,
            Fault::Midway => {
                let mut left = digest.size() / 2;
                let broken = content.map(move |piece| {
                    let piece = piece?;
                    left = left.checked_sub(piece.len() as u64).ok_or_else(Self::error)?;
                    Ok(piece)
                });
                let end = stream::iter([Err(Self::error())]);
                self.inner.write(digest, Box::pin(broken.chain(end))).await?;
            }
        }
        Err(Self::error())
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        let strikes = self.strikes();
        self.spoil(self.inner.read_batch(digests).await, strikes)
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let strikes = self.strikes();
        if strikes && self.fault == Fault::Before {
            return vec![Err(Self::error()); blobs.len()];
        }
        self.spoil(self.inner.write_batch(blobs).await, strikes)
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        let strikes = self.strikes();
        if strikes && self.fault == Fault::Before {
            return vec![Err(Self::error()); digests.len()];
        }
        self.spoil(self.inner.delete(digests).await, strikes)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        if self.strikes() { Err(Self::error()) } else { self.inner.probe().await }
    }
}

/// A store that is away: every call fails.
#[derive(Clone, Copy, Debug)]
pub struct Broken;

#[async_trait]
impl BlobStore for Broken {
    async fn find_missing(&self, _: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        Err(Faulty::error())
    }

    async fn read(&self, _: &Digest, _: ByteRange) -> Result<ByteStream, StoreError> {
        Err(Faulty::error())
    }

    async fn write(&self, _: &Digest, _: ByteStream) -> Result<(), StoreError> {
        Err(Faulty::error())
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        vec![Err(Faulty::error()); digests.len()]
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        vec![Err(Faulty::error()); blobs.len()]
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        vec![Err(Faulty::error()); digests.len()]
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Err(Faulty::error())
    }
}
