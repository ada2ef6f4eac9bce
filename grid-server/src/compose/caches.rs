//! Action caches.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use grid_cache::SharedCache;
use grid_cache::backends::keyed::{EntryOptions, EntryType, Keyed, Values};
use grid_cache::backends::lru::Lru;
use grid_cache::backends::redis::RedisValues;
use grid_cache::backends::remote::Remote;
use grid_cache::backends::sql::{Sql, SqlOptions};
use grid_cache::decorators::allow_updates::ReadOnly;
use grid_cache::decorators::cache_failed_actions::SuccessesOnly;
use grid_cache::decorators::completeness::{Completeness, CompletenessOptions};
use grid_cache::decorators::mirrored::Mirrored;
use grid_cache::decorators::sharded::Sharded;
use grid_cache::decorators::with_cache::WithCache;
use grid_cache::decorators::write_once::WriteOnce;
use grid_config::model::{
    self, ActionCache, CacheEntries, CachePolicy, LruActionCache, Place, ShardedActionCache, Shared,
    SqlActionCache, Storage,
};
use grid_core::{Coded as _, InstanceName, SystemClock};

use super::databases::{described, pool};
use super::remotes::cache_varies;
use super::{ComposeError, Composer, key, s3};
use crate::readiness::Dependency;

/// How many bytes a cache may remember of what trees contain.
const TREE_CACHE_BYTES: u64 = 16 << 20;

type Made<'f> = Pin<Box<dyn Future<Output = Result<SharedCache, ComposeError>> + Send + 'f>>;

impl Composer<'_> {
    /// An action cache.
    pub(super) fn cache<'f>(
        &'f mut self,
        item: &'f Shared<ActionCache>,
        instance: &'f InstanceName,
    ) -> Made<'f> {
        Box::pin(async move {
            let key = key(item, cache_varies(item).then_some(instance));
            if let Some(cache) = self.caches.get(&key) {
                return Ok(Arc::clone(cache));
            }
            let cache = self.make_cache(item, instance).await?;
            self.caches.insert(key, Arc::clone(&cache));
            Ok(cache)
        })
    }

    async fn make_cache(
        &mut self,
        item: &Shared<ActionCache>,
        instance: &InstanceName,
    ) -> Result<SharedCache, ComposeError> {
        match &item.value {
            ActionCache::Lru(cache) => self.lru_cache(cache, instance).await,
            ActionCache::Sql(cache) => self.sql_cache(cache, &item.place, instance).await,
            ActionCache::WithCache(cache) => {
                let front = self.cache(&cache.cache, instance).await?;
                let fallback = self.cache(&cache.fallback, instance).await?;
                Ok(limited(
                    Arc::new(WithCache::new(front, fallback, Arc::clone(&self.cache_observer))),
                    cache.policy,
                ))
            }
            ActionCache::Mirrored(cache) => {
                let first = self.cache(&cache.first, instance).await?;
                let second = self.cache(&cache.second, instance).await?;
                Ok(Arc::new(Mirrored::new(first, second, Arc::clone(&self.cache_observer))))
            }
            ActionCache::Sharded(cache) => {
                let place = item.place.to_string();
                let sharded = self.sharded_cache(cache, instance).await?;
                let sharded = sharded.map_err(|source| ComposeError::Cache { place, source })?;
                Ok(limited(Arc::new(sharded), cache.policy))
            }
            ActionCache::WriteOnce(cache) => {
                Ok(Arc::new(WriteOnce::new(self.cache(&cache.action_cache, instance).await?)))
            }
            ActionCache::Remote(cache) => {
                let connection = self.connection(&cache.remote, instance, &item.place)?;
                let cache: SharedCache = Arc::new(Remote::new(connection));
                self.dependencies.push(dependency(&item.place, &cache));
                Ok(cache)
            }
            ActionCache::Redis(cache) => {
                let salt = cache.entries.salt.as_deref();
                let values = RedisValues::new(self.redis(&cache.redis), salt);
                let cache =
                    self.keyed(values, &cache.storage, &cache.entries, cache.policy, instance).await?;
                self.dependencies.push(dependency(&item.place, &cache));
                Ok(cache)
            }
            ActionCache::S3(cache) => {
                let place = item.place.to_string();
                let values = s3::values(cache, &item.place).await;
                let values = values.map_err(|source| ComposeError::Store { place, source })?;
                let cache =
                    self.keyed(values, &cache.storage, &cache.entries, cache.policy, instance).await?;
                self.dependencies.push(dependency(&item.place, &cache));
                Ok(cache)
            }
        }
    }

    /// Results are given only while everything that they name is in the storage.
    async fn lru_cache(
        &mut self,
        cache: &LruActionCache,
        instance: &InstanceName,
    ) -> Result<SharedCache, ComposeError> {
        let storage = self.root(&cache.storage, instance).await?;
        let complete = Completeness::new(Arc::new(Lru::new(cache.max_refs)), storage, self.completeness());
        Ok(limited(Arc::new(complete), cache.policy))
    }

    /// As [`Composer::lru_cache`], of results in a database.
    async fn sql_cache(
        &mut self,
        cache: &SqlActionCache,
        place: &Place,
        instance: &InstanceName,
    ) -> Result<SharedCache, ComposeError> {
        let storage = self.root(&cache.storage, instance).await?;
        let database = self.database_of(cache.sql.as_ref()).await?;
        let options = SqlOptions {
            salt: cache.salt.clone().unwrap_or_default(),
            max_entries: cache.max_entries,
            expire_unused_after: cache.expire_unused_after,
            name: described(place, cache.sql.as_ref()).into(),
        };
        let sql = Sql::new(pool(database), Arc::new(SystemClock), options);
        tokio::spawn(keep_bounds(sql.clone()));
        let rows: SharedCache = Arc::new(sql);
        self.dependencies.push(dependency(place, &rows));
        let complete = Completeness::new(rows, storage, self.completeness());
        Ok(limited(Arc::new(complete), cache.policy))
    }

    /// Results in a service that keeps values by key, given only while everything that they name is in the storage.
    async fn keyed(
        &mut self,
        values: impl Values + 'static,
        storage: &Shared<Storage>,
        entries: &CacheEntries,
        policy: CachePolicy,
        instance: &InstanceName,
    ) -> Result<SharedCache, ComposeError> {
        let storage = self.root(storage, instance).await?;
        let entry_type = match entries.entry_type {
            model::EntryType::ActionResultDigest => EntryType::Digest,
            model::EntryType::ActionResult => EntryType::Result,
        };
        let options = EntryOptions { entry_type, migrate: entries.migrate };
        let keyed = Arc::new(Keyed::new(values, Arc::clone(&storage), options));
        let options = self.completeness();
        Ok(limited(Arc::new(Completeness::new(keyed, storage, options)), policy))
    }

    async fn sharded_cache(
        &mut self,
        cache: &ShardedActionCache,
        instance: &InstanceName,
    ) -> Result<Result<Sharded, grid_cache::CacheError>, ComposeError> {
        let mut shards = Vec::with_capacity(cache.shards.len());
        for shard in &cache.shards {
            shards.push((shard.name.clone(), self.cache(&shard.cache, instance).await?));
        }
        Ok(Sharded::new(shards, cache.salt.as_deref()))
    }

    fn completeness(&self) -> CompletenessOptions {
        let observer = Arc::clone(&self.cache_observer);
        CompletenessOptions { tree_cache_bytes: TREE_CACHE_BYTES, observer }
    }
}

async fn keep_bounds(cache: Sql) {
    if let Err(error) = cache.keep_bounds().await {
        tracing::warn!(%error, "old results could not be removed");
    }
}

fn dependency(place: &Place, cache: &SharedCache) -> Dependency {
    let cache = Arc::clone(cache);
    let probe = move || -> crate::readiness::Answer {
        let cache = Arc::clone(&cache);
        Box::pin(async move { cache.probe().await.map_err(|error| error.client_message()) })
    };
    Dependency { name: place.to_string(), probe: Box::new(probe) }
}

/// A cache that takes only what its configuration allows.
fn limited(cache: SharedCache, policy: CachePolicy) -> SharedCache {
    let cache = if policy.cache_failed_actions { cache } else { Arc::new(SuccessesOnly::new(cache)) };
    if policy.allow_updates { cache } else { Arc::new(ReadOnly::new(cache)) }
}
