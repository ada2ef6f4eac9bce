//! [`Pins`]: files that stay in the cache, and `Claim`: files that somebody is fetching.
//!
//! Both end with their value, whatever way an action ends. Neighbour: `file_cache` makes them.

use std::sync::Arc;

use tokio::sync::watch;

use super::file_cache::{FileCache, needs_place};
use super::key::FileKey;

/// Files that stay in the cache as long as this is held.
#[derive(Debug)]
pub struct Pins {
    pub(super) cache: Arc<FileCache>,
    pub(super) keys: Vec<FileKey>,
}

impl Pins {
    /// The same pins as parts that can be dropped one by one: `parts` together are the keys that were acquired.
    #[must_use]
    pub fn divide(mut self, parts: impl IntoIterator<Item = Vec<FileKey>>) -> Vec<Self> {
        self.keys.clear();
        let part = |mut keys: Vec<FileKey>| {
            keys.retain(needs_place);
            Self { cache: self.cache.clone(), keys }
        };
        parts.into_iter().map(part).collect()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut state = self.cache.state.lock();
        for key in &self.keys {
            state.index.unpin(key);
        }
        self.cache.trim(&mut state);
    }
}

/// The promise to fetch files; whoever waits for them looks again when it is dropped.
pub(super) struct Claim<'a> {
    pub(super) cache: &'a FileCache,
    pub(super) keys: Vec<FileKey>,
    pub(super) _done: watch::Sender<()>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.cache.state.lock();
        for key in &self.keys {
            state.in_flight.remove(key);
        }
    }
}
