//! `!sharded-action-cache`: results spread over shards by the same rendezvous hashing as blobs.

use async_trait::async_trait;
use grid_core::Digest;
use grid_proto::reapi::ActionResult;

use futures::future::try_join_all;
use grid_cas::decorators::sharded::Rendezvous;

use crate::{ActionCache, CacheError, SharedCache};

/// Caches that share the results.
#[derive(Debug)]
pub struct Sharded {
    shards: Vec<SharedCache>,
    route: Rendezvous,
}

impl Sharded {
    /// A cache over these shards, each with its name. The salt (`cache-key-salt`) is a part of what is hashed.
    ///
    /// # Errors
    /// [`grid_cas::StoreError::Refused`] for no shards, or a name twice.
    pub fn new(shards: Vec<(String, SharedCache)>, salt: Option<&str>) -> Result<Self, CacheError> {
        let route = Rendezvous::new(shards.iter().map(|(name, _)| name.as_str()))?;
        let route = match salt {
            Some(salt) => route.salted(salt),
            None => route,
        };
        Ok(Self { shards: shards.into_iter().map(|(_, shard)| shard).collect(), route })
    }

    fn shard(&self, action: &Digest) -> &SharedCache {
        &self.shards[self.route.shard(action)]
    }
}

#[async_trait]
impl ActionCache for Sharded {
    async fn get(&self, action: &Digest) -> Result<Option<ActionResult>, CacheError> {
        self.shard(action).get(action).await
    }

    async fn update(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        self.shard(action).update(action, result).await
    }

    async fn insert(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        self.shard(action).insert(action, result).await
    }

    async fn delete(&self, action: &Digest) -> Result<(), CacheError> {
        self.shard(action).delete(action).await
    }

    fn allows_updates(&self) -> bool {
        self.shards.iter().all(|shard| shard.allows_updates())
    }

    async fn probe(&self) -> Result<(), CacheError> {
        try_join_all(self.shards.iter().map(|shard| shard.probe())).await.map(drop)
    }
}
