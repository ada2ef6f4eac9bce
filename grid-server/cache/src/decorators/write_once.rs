//! `!write-once-action-cache`: the first result of an action stays. Two writers at once can't both succeed, for the
//! backend within decides (see [`ActionCache::insert`]).

use async_trait::async_trait;
use grid_core::Digest;
use grid_proto::reapi::ActionResult;

use crate::{ActionCache, CacheError, SharedCache};

/// A cache that keeps the first result.
#[derive(Debug)]
pub struct WriteOnce {
    inner: SharedCache,
}

impl WriteOnce {
    /// `inner`, keeping the first result of each action.
    #[must_use]
    pub fn new(inner: SharedCache) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl ActionCache for WriteOnce {
    async fn get(&self, action: &Digest) -> Result<Option<ActionResult>, CacheError> {
        self.inner.get(action).await
    }

    async fn update(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        self.inner.insert(action, result).await
    }

    async fn insert(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        self.inner.insert(action, result).await
    }

    async fn delete(&self, action: &Digest) -> Result<(), CacheError> {
        self.inner.delete(action).await
    }

    fn allows_updates(&self) -> bool {
        self.inner.allows_updates()
    }

    async fn probe(&self) -> Result<(), CacheError> {
        self.inner.probe().await
    }
}
