//! What is kept within bounds.

use std::time::Duration;

use super::{Shared, Storage};

/// One element of `cleanup`.
#[derive(Debug, PartialEq)]
pub struct Cleanup {
    /// The name in logs and metrics.
    pub name: String,
    /// The index: an `!sql-index` or a `!redis-index`.
    pub index: Shared<Storage>,
    /// The bytes from which blobs are deleted.
    pub high_watermark: u64,
    /// The bytes to which they are.
    pub low_watermark: u64,
    /// How many bytes at a time.
    pub batch_size: u64,
    /// Bounds of the number of blobs.
    pub counts: Option<BlobCounts>,
    /// Blobs used since then stay.
    pub only_if_unused_for: Option<Duration>,
    /// Other rules for large blobs.
    pub large: Option<LargeBlobs>,
    /// How often a failed pass is tried again.
    pub retry_limit: u32,
}

/// Bounds of the number of blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobCounts {
    /// The number from which they are deleted.
    pub high: u64,
    /// The number to which they are.
    pub low: u64,
}

/// Other rules for large blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargeBlobs {
    /// The bytes above which a blob is large.
    pub threshold: u64,
    /// How long it stays when it isn't used.
    pub lifetime: Duration,
}
