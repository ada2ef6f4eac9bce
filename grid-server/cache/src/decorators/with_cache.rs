//! `!with-cache-action-cache`: a fast cache in front of one that has everything. Trouble of the one in front is logged
//! and costs speed, nothing else: nobody waits long for one that is away.

use async_trait::async_trait;
use grid_cas::breaker::Breaker;
use grid_cas::wait::hurried;
use grid_core::Digest;
use grid_proto::reapi::ActionResult;

use crate::observer::{CacheEvent, SharedCacheObserver};
use crate::{ActionCache, CacheError, SharedCache};

/// A cache and what it is a cache of.
#[derive(Debug)]
pub struct WithCache {
    cache: SharedCache,
    fallback: SharedCache,
    breaker: Breaker<CacheError>,
    observer: SharedCacheObserver,
}

impl WithCache {
    /// Puts `cache` in front of `fallback`.
    #[must_use]
    pub fn new(cache: SharedCache, fallback: SharedCache, observer: SharedCacheObserver) -> Self {
        Self { cache, fallback, breaker: Breaker::default(), observer }
    }

    /// Puts a new result in front. Where that fails, what was there before must not be given any more: so it is tried,
    /// however lately the cache was away.
    async fn renew(&self, action: &Digest, result: &ActionResult) {
        let Err(error) = hurried(self.cache.update(action, result)).await else { return };
        tracing::warn!(%action, %error, "the cache in front of an action cache failed");
        if let Err(error) = hurried(self.cache.delete(action)).await {
            tracing::warn!(%action, %error, "an older result may be left in front of an action cache");
        }
    }
}

#[async_trait]
impl ActionCache for WithCache {
    async fn get(&self, action: &Digest) -> Result<Option<ActionResult>, CacheError> {
        match self.breaker.call(self.cache.get(action)).await {
            Ok(Some(result)) => {
                self.observer.event(CacheEvent::FrontHit);
                return Ok(Some(result));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%action, %error, "the cache in front of an action cache failed"),
        }
        self.observer.event(CacheEvent::FrontMiss);
        let found = self.fallback.get(action).await?;
        if let Some(result) = &found
            && let Err(error) = self.breaker.call(self.cache.update(action, result)).await
        {
            tracing::warn!(%action, %error, "the cache in front of an action cache could not be filled");
        }
        Ok(found)
    }

    async fn update(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        self.fallback.update(action, result).await?;
        self.renew(action, result).await;
        Ok(())
    }

    async fn insert(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        self.fallback.insert(action, result).await?;
        self.renew(action, result).await;
        Ok(())
    }

    async fn delete(&self, action: &Digest) -> Result<(), CacheError> {
        // In this order: a read in between could fill the cache again.
        self.fallback.delete(action).await?;
        self.cache.delete(action).await
    }

    fn allows_updates(&self) -> bool {
        self.fallback.allows_updates()
    }

    async fn probe(&self) -> Result<(), CacheError> {
        self.fallback.probe().await
    }
}
