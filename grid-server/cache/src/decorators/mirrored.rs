//! `!mirrored-action-cache`: two caches with the same entries, compared at each read; for moving from one to another.
//! Reads don't wait for the one that is away while the other answers.

use async_trait::async_trait;
use grid_core::{Coded, Digest, ErrorCode};
use grid_proto::reapi::ActionResult;

use futures::future::join;
use grid_cas::breaker::Breaker;

use crate::observer::{CacheEvent, SharedCacheObserver};
use crate::{ActionCache, CacheError, SharedCache};

/// Two caches that should agree.
#[derive(Debug)]
pub struct Mirrored {
    first: SharedCache,
    second: SharedCache,
    breakers: [Breaker<CacheError>; 2],
    observer: SharedCacheObserver,
}

impl Mirrored {
    /// Mirrors `first`, whose answers count, in `second`.
    #[must_use]
    pub fn new(first: SharedCache, second: SharedCache, observer: SharedCacheObserver) -> Self {
        Self { first, second, breakers: Default::default(), observer }
    }
}

#[async_trait]
impl ActionCache for Mirrored {
    async fn get(&self, action: &Digest) -> Result<Option<ActionResult>, CacheError> {
        let [one, two] = &self.breakers;
        let soon = join(one.call(self.first.get(action)), two.call(self.second.get(action)));
        let (first, second) = match soon.await {
            (Err(one), Err(two))
                if [&one, &two].iter().all(|error| error.code() == ErrorCode::Unavailable) =>
            {
                join(self.first.get(action), self.second.get(action)).await
            }
            answers => answers,
        };
        let (first, second) = match (first, second) {
            (Ok(first), Ok(second)) => (first, second),
            // One may be away: the other answers, unless it has nothing.
            (Ok(Some(one)), Err(error)) | (Err(error), Ok(Some(one))) => {
                tracing::warn!(%action, %error, "one of two mirrored action caches failed");
                return Ok(Some(one));
            }
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        let same = first == second;
        self.observer.event(if same { CacheEvent::MirrorsMatch } else { CacheEvent::MirrorsDiffer });
        let repaired = match (&first, &second) {
            (Some(result), None) if self.second.allows_updates() => self.second.update(action, result).await,
            (None, Some(result)) if self.first.allows_updates() => self.first.update(action, result).await,
            _ => Ok(()),
        };
        if let Err(error) = repaired {
            tracing::warn!(%action, %error, "a mirrored action cache could not be filled");
        }
        Ok(first.or(second))
    }

    async fn update(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        let (first, second) =
            join(self.first.update(action, result), self.second.update(action, result)).await;
        first.and(second)
    }

    async fn insert(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        self.first.insert(action, result).await?;
        self.second.update(action, result).await
    }

    async fn delete(&self, action: &Digest) -> Result<(), CacheError> {
        let (first, second) = join(self.first.delete(action), self.second.delete(action)).await;
        first.and(second)
    }

    fn allows_updates(&self) -> bool {
        self.first.allows_updates() && self.second.allows_updates()
    }

    async fn probe(&self) -> Result<(), CacheError> {
        let (first, second) = join(self.first.probe(), self.second.probe()).await;
        first.or(second)
    }
}
