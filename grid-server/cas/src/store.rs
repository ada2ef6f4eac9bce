//! The [`BlobStore`] trait and the shapes that its calls pass around.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use grid_core::Digest;

use crate::StoreError;

/// A blob's content on its way: pieces of any size, in order, and at most one error, which ends it.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, StoreError>> + Send>>;

/// A store that is shared, as an aliased node of the configuration is.
pub type SharedStore = Arc<dyn BlobStore>;

/// Which part of a blob to read, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteRange {
    /// How many bytes to leave out at the start; at most the blob's size.
    pub offset: u64,
    /// How many bytes to give at most; `None` for all that follow.
    pub limit: Option<u64>,
}

/// A content-addressed store.
///
/// Rules that every implementation keeps, and the conformance suite checks:
/// - A blob is either absent or whole. What `write` acknowledged survives what the backend's documentation says.
/// - The stream given to `write` may end early or in an error: then nothing is stored, and nothing leaks. A store
///   commits only after a clean end with exactly `digest.size()` bytes. That the bytes match the hash is checked
///   by the `verify` decorator, which stands outermost in each composed tree, once for all.
/// - The empty blob is always there: reading it gives nothing, writing it stores nothing.
/// - `find_missing` and reads count as uses, and so extend a blob's life.
/// - Digests of different functions never meet, whatever their hashes.
/// - Dropping a future or a stream cancels the work, at any point, without loss to others.
#[async_trait]
pub trait BlobStore: Debug + Send + Sync {
    /// Those of `digests` that are not there, in the order asked, each once.
    ///
    /// # Errors
    /// Where absence can't be told from trouble: a blob is never said to be missing because a backend is away.
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError>;

    /// A part of a blob, as a stream.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::OutOfRange`] for an offset past the end; a backend's trouble, here
    /// or later in the stream.
    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError>;

    /// Stores a blob. Storing what is there already succeeds, and reads no more of `content` than it must.
    ///
    /// # Errors
    /// The error that `content` ended in; [`StoreError::SizeMismatch`]; a backend's trouble.
    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError>;

    /// Several whole blobs, in the order asked; the caller bounds their total size.
    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>>;

    /// Stores several blobs that are in memory, with one answer for each in the order given.
    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>>;

    /// Removes blobs; those that are absent count as removed. One answer for each, in order.
    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>>;

    /// Whether the backend answers at all; for health, never on the path of a call.
    ///
    /// # Errors
    /// What a call would have met.
    async fn probe(&self) -> Result<(), StoreError>;
}
