//! [`StoreObserver`]: what stores tell of themselves. `grid-telemetry` turns it into metrics; this crate knows none.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use grid_core::ErrorCode;

/// Something that happened in a store, worth a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// A call ended (decorator `metrics`). For streams: when the stream ended or was dropped.
    Call {
        /// Which call.
        method: Method,
        /// How it ended; `None` is well. In batches: the first failure that is not `NotFound`.
        error: Option<ErrorCode>,
        /// From the call to its end, the time a slow reader or sender took included.
        took: Duration,
        /// How many blobs it named.
        blobs: u64,
        /// How many bytes of content went through it.
        bytes: u64,
    },
    /// Blobs asked of `find_missing`, and how many of them were missing (decorator `metrics`).
    Missing {
        /// How many were asked for.
        asked: u64,
        /// How many were missing.
        missing: u64,
    },
    /// A cache in front of a store answered a read, or did not (`with_cache`, `existence_cache`).
    Cache {
        /// How many blobs it had.
        hits: u64,
        /// How many it had not.
        misses: u64,
    },
    /// A write to a fallback was put off (`with_cache`), and this many bytes are waiting now.
    Deferred {
        /// Bytes waiting, this blob's included.
        waiting: u64,
    },
    /// A write to a fallback was made at once, since the queue of deferred writes is full (`with_cache`).
    DeferredQueueFull,
    /// A deferred write failed for good: the blob is in the cache alone (`with_cache`).
    DeferredWriteLost,
    /// A blob left to make room.
    Evicted {
        /// Its size in bytes.
        bytes: u64,
        /// How long ago it was last used: less than the promised lifetime is a promise broken for lack of room.
        unused_for: Duration,
    },
    /// Copies were missing from some replicas (`replicated`).
    Repair {
        /// How many copies were put back.
        repaired: u64,
        /// How many could not be.
        failed: u64,
    },
    /// A copy that is missing was found, and is not put back, for the queue of repairs is full (`replicated`).
    RepairQueueFull,
    /// An index named a blob that its storage does not have; the entry was removed.
    Dangling,
    /// A blob was deleted (decorator `metrics`).
    Deleted {
        /// Its size in bytes.
        bytes: u64,
    },
    /// So many blobs could not be deleted (decorator `metrics`).
    DeleteErrors(u64),
    /// A call of an index ended.
    Index {
        /// Which call.
        call: IndexCall,
        /// How it ended; `None` is well.
        error: Option<ErrorCode>,
        /// How long it took.
        took: Duration,
    },
}

/// The calls of a [`crate::index::BlobIndex`] that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexCall {
    /// `insert`.
    Insert,
    /// `present`.
    Present,
    /// `totals`.
    Totals,
    /// `claim`.
    Claim,
    /// `forget`.
    Forget,
}

/// The calls of a [`crate::BlobStore`]; the names are BuildGrid's labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// `find_missing`.
    BulkStat,
    /// `read`.
    StreamRead,
    /// `write`.
    StreamWrite,
    /// `read_batch`.
    BulkRead,
    /// `write_batch`.
    BulkWrite,
    /// `delete`.
    BulkDelete,
}

impl Method {
    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::BulkStat => "bulk_stat",
            Self::StreamRead => "stream_read",
            Self::StreamWrite => "stream_write",
            Self::BulkRead => "bulk_read",
            Self::BulkWrite => "bulk_write",
            Self::BulkDelete => "bulk_delete",
        }
    }
}

/// Who is told of [`StoreEvent`]s. It is called on the path of calls: it counts, and does nothing else.
pub trait StoreObserver: Debug + Send + Sync {
    /// Something happened in the store whose label (its tag's name, such as `lru` or `with_cache`) is `store`.
    fn event(&self, store: &'static str, event: StoreEvent);
}

/// An observer that is shared by all stores of a tree.
pub type SharedObserver = Arc<dyn StoreObserver>;

/// An observer that takes no notice.
#[must_use]
pub fn unobserved() -> SharedObserver {
    Arc::new(Unobserved)
}

#[derive(Debug)]
struct Unobserved;

impl StoreObserver for Unobserved {
    fn event(&self, _: &'static str, _: StoreEvent) {}
}
