//! `allow-updates: false`: a cache that only gives results. Where updates are allowed, this decorator is not there.

use async_trait::async_trait;
use grid_core::Digest;
use grid_proto::reapi::ActionResult;

use crate::{ActionCache, CacheError, SharedCache};

/// A cache that takes no updates.
#[derive(Debug)]
pub struct ReadOnly {
    inner: SharedCache,
}

impl ReadOnly {
    /// `inner`, read-only.
    #[must_use]
    pub fn new(inner: SharedCache) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl ActionCache for ReadOnly {
    async fn get(&self, action: &Digest) -> Result<Option<ActionResult>, CacheError> {
        self.inner.get(action).await
    }

    async fn update(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        let _ = (action, result);
        Err(CacheError::UpdatesNotAllowed)
    }

    async fn insert(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        let _ = (action, result);
        Err(CacheError::UpdatesNotAllowed)
    }

    async fn delete(&self, action: &Digest) -> Result<(), CacheError> {
        let _ = action;
        Err(CacheError::UpdatesNotAllowed)
    }

    fn allows_updates(&self) -> bool {
        false
    }

    async fn probe(&self) -> Result<(), CacheError> {
        self.inner.probe().await
    }
}
