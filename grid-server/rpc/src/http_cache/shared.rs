//! [`Shared`]: an instance's results as gRPC gives and takes them, where the same instance is served by HTTP too.
//!
//! HTTP names an action without its size. So a result that comes by gRPC, from a client or from the scheduler, leaves its
//! action's size where HTTP finds it, and an action that has no result by its digest is looked for under its hash alone.

use async_trait::async_trait;
use grid_cache::{ActionCache, CacheError, SharedCache};
use grid_core::Digest;
use grid_proto::reapi::ActionResult;

use super::sizes;

/// The results.
#[derive(Debug)]
pub struct Shared {
    inner: SharedCache,
}

impl Shared {
    /// The results of `inner`, which HTTP has too.
    #[must_use]
    pub fn new(inner: SharedCache) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl ActionCache for Shared {
    async fn get(&self, action: &Digest) -> Result<Option<ActionResult>, CacheError> {
        match self.inner.get(action).await? {
            Some(result) => Ok(Some(result)),
            None => self.inner.get(&sizes::result_key(action)).await,
        }
    }

    async fn update(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        self.inner.update(action, result).await?;
        sizes::keep(&self.inner, action).await
    }

    async fn insert(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        self.inner.insert(action, result).await?;
        sizes::keep(&self.inner, action).await
    }

    async fn delete(&self, action: &Digest) -> Result<(), CacheError> {
        self.inner.delete(&sizes::result_key(action)).await?;
        self.inner.delete(action).await
    }

    fn allows_updates(&self) -> bool {
        self.inner.allows_updates()
    }

    async fn probe(&self) -> Result<(), CacheError> {
        self.inner.probe().await
    }
}
