//! [`CacheObserver`]: what action caches tell of themselves. `grid-telemetry` turns it into metrics.

use std::fmt::Debug;
use std::sync::Arc;

/// Something that happened in an action cache, worth a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheEvent {
    /// A result was there and everything it names too (`completeness`).
    Hit,
    /// There was no result (`completeness`).
    Miss,
    /// There was a result, but something that it names is gone (`completeness`); BuildGrid's `invalid_cache`.
    Incomplete,
    /// The cache in front had the result (`with_cache`).
    FrontHit,
    /// The cache in front had it not (`with_cache`).
    FrontMiss,
    /// Both mirrors have the same (`mirrored`).
    MirrorsMatch,
    /// The mirrors have different results, or one has none (`mirrored`).
    MirrorsDiffer,
}

/// Who is told of [`CacheEvent`]s. It is called on the path of calls: it counts, and does nothing else.
pub trait CacheObserver: Debug + Send + Sync {
    /// Something happened.
    fn event(&self, event: CacheEvent);
}

/// An observer that is shared by all caches of a tree.
pub type SharedCacheObserver = Arc<dyn CacheObserver>;

/// An observer that takes no notice.
#[must_use]
pub fn unobserved() -> SharedCacheObserver {
    Arc::new(Unobserved)
}

#[derive(Debug)]
struct Unobserved;

impl CacheObserver for Unobserved {
    fn event(&self, _: CacheEvent) {}
}
