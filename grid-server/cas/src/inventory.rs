//! [`Inventory`]: what a backend holds, whatever an index says of it. `fsck` and `janitor` compare the two.
//!
//! Backends that keep blobs in a process's memory, or behind a protocol that lists nothing, have none.

use std::pin::Pin;

use async_trait::async_trait;
use futures::Stream;
use grid_core::{Digest, Timestamp};

use crate::{BlobStore, StoreError};

/// A blob in a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The blob.
    pub digest: Digest,
    /// When its content was written last; for Redis, which does not keep that, when it was used last.
    pub since: Timestamp,
}

/// Blobs, some at a time, in no order; the first error ends them.
pub type Pages<'a> = Pin<Box<dyn Stream<Item = Result<Vec<Stored>, StoreError>> + Send + 'a>>;

/// A backend that tells what it holds.
#[async_trait]
pub trait Inventory: BlobStore {
    /// Everything, in pages. What is stored or deleted meanwhile may be among it or not; what is no blob's is left out.
    fn list(&self) -> Pages<'_>;

    /// Those of `digests` that are there and whole, as the backend tells it now. Counts as no use.
    ///
    /// # Errors
    /// The backend's trouble.
    async fn stored(&self, digests: &[Digest]) -> Result<Vec<Stored>, StoreError>;

    /// Gives up uploads of writers that died: those begun before `before` and never ended; `dry_run` only counts them. Tells
    /// how many they were. Most backends need nobody for that: what is unfinished expires there, or goes at a start.
    ///
    /// # Errors
    /// The backend's trouble.
    async fn abandon(&self, before: Timestamp, dry_run: bool) -> Result<u64, StoreError> {
        let _ = (before, dry_run);
        Ok(0)
    }
}
