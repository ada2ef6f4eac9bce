//! `!size-differentiated-storage`: small blobs in one store, large ones in another.

use grid_core::Digest;

use super::router::{Route, Router};
use crate::SharedStore;

/// Stores for blobs below certain sizes, and one for all others.
pub type SizeDifferentiated = Router<BySize>;

/// A blob belongs to the first store whose `max-size` it is smaller than.
#[derive(Debug)]
pub struct BySize {
    max_sizes: Vec<u64>,
}

impl Route for BySize {
    fn place(&self, digest: &Digest) -> usize {
        self.max_sizes.partition_point(|max| *max <= digest.size())
    }
}

impl SizeDifferentiated {
    /// A store of `size_limited` ones with their `max-size` in bytes (blobs of just that size go to the next), in
    /// whatever order, and of a `fallback` for what is larger than them all.
    #[must_use]
    pub fn new(mut size_limited: Vec<(u64, SharedStore)>, fallback: SharedStore) -> Self {
        size_limited.sort_by_key(|(max_size, _)| *max_size);
        let (max_sizes, mut stores): (Vec<_>, Vec<_>) = size_limited.into_iter().unzip();
        stores.push(fallback);
        Self::over(stores, BySize { max_sizes })
    }
}
