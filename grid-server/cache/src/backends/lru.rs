//! `!lru-action-cache`: results in this process's memory, the least recently used leaving first.

use std::num::NonZeroUsize;

use async_trait::async_trait;
use grid_core::Digest;
use grid_proto::reapi::ActionResult;
use lru::LruCache;
use parking_lot::Mutex;

use crate::{ActionCache, CacheError};

/// Results in memory.
#[derive(Debug)]
pub struct Lru {
    entries: Mutex<LruCache<Digest, ActionResult>>,
}

impl Lru {
    /// A cache of at most `max_cached_refs` results; at least one.
    #[must_use]
    pub fn new(max_cached_refs: usize) -> Self {
        let capacity = NonZeroUsize::new(max_cached_refs).unwrap_or(NonZeroUsize::MIN);
        // Unbounded and kept short by hand: a bounded one allocates for all of its entries at once.
        let entries = LruCache::unbounded();
        let this = Self { entries: Mutex::new(entries) };
        this.entries.lock().resize(capacity);
        this
    }
}

#[async_trait]
impl ActionCache for Lru {
    async fn get(&self, action: &Digest) -> Result<Option<ActionResult>, CacheError> {
        Ok(self.entries.lock().get(action).cloned())
    }

    async fn update(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        let result = result.clone();
        self.entries.lock().put(*action, result);
        Ok(())
    }

    async fn insert(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        let mut entries = self.entries.lock();
        if entries.contains(action) {
            return Err(CacheError::AlreadyWritten(*action));
        }
        entries.put(*action, result.clone());
        Ok(())
    }

    async fn delete(&self, action: &Digest) -> Result<(), CacheError> {
        self.entries.lock().pop(action);
        Ok(())
    }

    fn allows_updates(&self) -> bool {
        true
    }

    async fn probe(&self) -> Result<(), CacheError> {
        Ok(())
    }
}
