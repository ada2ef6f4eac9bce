//! `cache-failed-actions: false`: results of failed actions are taken and not kept, as BuildGrid does. Where they are
//! kept, this decorator is not there.

use async_trait::async_trait;
use grid_core::Digest;
use grid_proto::reapi::ActionResult;

use crate::{ActionCache, CacheError, SharedCache};

/// A cache of successful actions alone.
#[derive(Debug)]
pub struct SuccessesOnly {
    inner: SharedCache,
}

impl SuccessesOnly {
    /// `inner`, for successful actions alone.
    #[must_use]
    pub fn new(inner: SharedCache) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl ActionCache for SuccessesOnly {
    async fn get(&self, action: &Digest) -> Result<Option<ActionResult>, CacheError> {
        self.inner.get(action).await
    }

    async fn update(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        if result.exit_code != 0 {
            return Ok(());
        }
        self.inner.update(action, result).await
    }

    async fn insert(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        if result.exit_code != 0 {
            return Ok(());
        }
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
