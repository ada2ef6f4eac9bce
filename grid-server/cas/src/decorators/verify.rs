//! `verify`: nothing whose hash is another than its digest says gets in.
//!
//! It stands outermost in each composed tree, once for all, and hashes while the content streams by; what is read is
//! not hashed again, since backends check sizes and nothing else writes to them.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, TryStreamExt};
use grid_core::{Digest, Hasher};

use crate::{BlobStore, ByteRange, ByteStream, SharedStore, StoreError};

/// A store that checks what is written to it.
#[derive(Debug)]
pub struct Verify {
    inner: SharedStore,
}

impl Verify {
    /// Checks what is written to `inner`.
    #[must_use]
    pub fn new(inner: SharedStore) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl BlobStore for Verify {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.inner.find_missing(digests).await
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        self.inner.read(digest, range).await
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        self.inner.write(digest, checked(*digest, content)).await
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        self.inner.read_batch(digests).await
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let mut answers: Vec<_> = blobs.iter().map(|(digest, bytes)| check(digest, bytes)).collect();
        let good = blobs.into_iter().zip(&answers).filter(|(_, answer)| answer.is_ok()).map(|(blob, _)| blob);
        let mut stored = self.inner.write_batch(good.collect()).await.into_iter();
        for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
            *answer = stored.next().unwrap_or_else(|| Err(lost_answer()));
        }
        answers
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        self.inner.delete(digests).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.inner.probe().await
    }
}

fn lost_answer() -> StoreError {
    StoreError::Internal { backend: "verify".into(), message: "the store gave too few answers".into() }
}

fn check(digest: &Digest, bytes: &Bytes) -> Result<(), StoreError> {
    if bytes.len() as u64 != digest.size() {
        return Err(StoreError::SizeMismatch { expected: *digest, actual: bytes.len() as u64 });
    }
    let actual = Digest::of(digest.function(), bytes);
    if actual == *digest { Ok(()) } else { Err(StoreError::DigestMismatch { expected: *digest, actual }) }
}

/// `content`, with an error in place of its clean end where its length or hash is wrong.
fn checked(expected: Digest, content: ByteStream) -> ByteStream {
    let state = (content, Some(Hasher::new(expected.function())));
    Box::pin(stream::try_unfold(state, move |(mut content, hasher)| async move {
        let Some(mut hasher) = hasher else { return Ok(None) };
        if let Some(piece) = content.try_next().await? {
            hasher.update(&piece);
            if hasher.size() > expected.size() {
                return Err(StoreError::SizeMismatch { expected, actual: hasher.size() });
            }
            return Ok(Some((piece, (content, Some(hasher)))));
        }
        if hasher.size() != expected.size() {
            return Err(StoreError::SizeMismatch { expected, actual: hasher.size() });
        }
        let actual = hasher.finish();
        if actual != expected {
            return Err(StoreError::DigestMismatch { expected, actual });
        }
        Ok(None)
    }))
}
