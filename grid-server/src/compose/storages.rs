//! Storages.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use grid_cas::backends::disk::{Disk, DiskOptions};
use grid_cas::backends::lru::{Lru, LruOptions};
use grid_cas::backends::redis::Redis;
use grid_cas::backends::remote::Remote;
use grid_cas::backends::sql::Sql;
use grid_cas::decorators::existence_cache::{ExistenceCache, ExistenceCacheOptions};
use grid_cas::decorators::metrics::Metrics;
use grid_cas::decorators::redis_fmb_cache::{RedisFmbCache, RedisFmbCacheOptions};
use grid_cas::decorators::replicated::{Replicated, ReplicatedOptions};
use grid_cas::decorators::sharded::Sharded;
use grid_cas::decorators::size_differentiated::SizeDifferentiated;
use grid_cas::decorators::verify::Verify;
use grid_cas::decorators::with_cache::{Journal, WithCache, WithCacheOptions};
use grid_cas::decorators::zstd::Zstd;
use grid_cas::form::Form;
use grid_cas::{Inventory, SharedStore, StoreError};
use grid_config::model::{self, Place, Shared, Storage};
use grid_core::{Coded as _, InstanceName, SystemClock};

use super::databases::{described, pool};
use super::remotes::storage_varies;
use super::{ComposeError, Composer, key, s3};
use crate::readiness::Dependency;

/// How many bytes of blobs may wait for a deferred write; what comes then is written at once.
const DEFERRED_BYTES: u64 = 256 << 20;

type Made<'f> = Pin<Box<dyn Future<Output = Result<SharedStore, ComposeError>> + Send + 'f>>;

impl Composer<'_> {
    /// A storage as a service uses it: what is written is verified, and calls are counted.
    pub(super) async fn root(
        &mut self,
        item: &Shared<Storage>,
        instance: &InstanceName,
    ) -> Result<SharedStore, ComposeError> {
        let key = key(item, storage_varies(item).then_some(instance));
        if let Some(store) = self.roots.get(&key) {
            return Ok(Arc::clone(store));
        }
        let inner = self.storage(item, instance).await?;
        let counted = Arc::new(Metrics::new(inner, label(item), Arc::clone(&self.observer)));
        let store: SharedStore = Arc::new(Verify::new(counted));
        self.dependencies.push(dependency(&item.place, &store));
        self.roots.insert(key, Arc::clone(&store));
        Ok(store)
    }

    /// A storage as another object uses it.
    pub(super) fn storage<'f>(
        &'f mut self,
        item: &'f Shared<Storage>,
        instance: &'f InstanceName,
    ) -> Made<'f> {
        Box::pin(async move {
            let key = key(item, storage_varies(item).then_some(instance));
            if let Some(store) = self.storages.get(&key) {
                return Ok(Arc::clone(store));
            }
            let store = self.make_storage(item, instance).await?;
            self.storages.insert(key, Arc::clone(&store));
            Ok(store)
        })
    }

    async fn make_storage(
        &mut self,
        item: &Shared<Storage>,
        instance: &InstanceName,
    ) -> Result<SharedStore, ComposeError> {
        let place = &item.place;
        match &item.value {
            Storage::Lru(lru) => Ok(self.lru(lru, place)),
            Storage::Disk(_) | Storage::S3(_) | Storage::Redis(_) | Storage::Sql(_) => {
                let made = self.made(item, Form::Plain).await?;
                Ok(self.backend(item, made))
            }
            Storage::Zstd(storage) => {
                let backend = self.made(&storage.storage, Form::Packed).await?;
                let zstd = Zstd::new(backend, i32::from(storage.level), place.to_string().into());
                Ok(self.backend(item, Arc::new(zstd)))
            }
            Storage::Remote(storage) => {
                Ok(Arc::new(Remote::new(self.connection(&storage.remote, instance, place)?)))
            }
            Storage::WithCache(storage) => self.with_cache(storage, place, instance).await,
            Storage::SizeDifferentiated(storage) => self.size_differentiated(storage, instance).await,
            Storage::Sharded(storage) => self.sharded(storage, place, instance).await,
            Storage::Replicated(storage) => self.replicated(storage, place, instance).await,
            Storage::SqlIndex(_) | Storage::RedisIndex(_) => self.index(item, instance).await,
            Storage::RedisFmbCache(storage) => self.redis_fmb_cache(storage, instance).await,
            Storage::ExistenceCache(cache) => {
                let inner = self.storage(&cache.storage, instance).await?;
                let options = ExistenceCacheOptions {
                    entries: cache.max_entries,
                    time_to_live: cache.ttl,
                    observer: Arc::clone(&self.observer),
                };
                Ok(Arc::new(ExistenceCache::new(inner, options)))
            }
        }
    }

    /// A backend that tells what it holds, with its blobs in one of the forms.
    async fn made(&mut self, item: &Shared<Storage>, form: Form) -> Result<Arc<dyn Inventory>, ComposeError> {
        let place = &item.place;
        Ok(match &item.value {
            Storage::Disk(disk) => Arc::new(self.disk(disk, place, form).await?),
            Storage::S3(storage) => Arc::new(s3::storage(storage, place, form).await.map_err(at(place))?),
            Storage::Redis(storage) => Arc::new(Redis::new(self.redis(&storage.redis)).in_form(form)),
            Storage::Sql(storage) => {
                let pool = pool(self.sql(&storage.sql).await?);
                Arc::new(
                    Sql::new(pool, Arc::new(SystemClock), described(place, Some(&storage.sql)).into())
                        .in_form(form),
                )
            }
            _ => {
                let what = "it is no backend that tells what it holds".to_owned();
                return Err(ComposeError::Contradiction { place: place.to_string(), what });
            }
        })
    }

    /// Keeps a backend for those who ask what it holds.
    fn backend(&mut self, item: &Shared<Storage>, made: Arc<dyn Inventory>) -> SharedStore {
        self.inventories.insert(key(item, None), Arc::clone(&made));
        made
    }

    fn lru(&self, lru: &model::LruStorage, place: &Place) -> SharedStore {
        let observer = Arc::clone(&self.observer);
        Arc::new(Lru::new(LruOptions { size: lru.size, name: place.to_string().into(), observer }))
    }

    async fn disk(&self, disk: &model::DiskStorage, place: &Place, form: Form) -> Result<Disk, ComposeError> {
        let options = DiskOptions {
            path: disk.path.clone(),
            max_size: disk.max_size,
            sync: true,
            form,
            beside: self.beside,
            name: format!("{place} at {}", disk.path.display()).into(),
            observer: Arc::clone(&self.observer),
        };
        Disk::open(options, Arc::new(SystemClock)).await.map_err(at(place))
    }

    async fn redis_fmb_cache(
        &mut self,
        storage: &model::RedisFmbCache,
        instance: &InstanceName,
    ) -> Result<SharedStore, ComposeError> {
        let inner = self.storage(&storage.storage, instance).await?;
        let options = RedisFmbCacheOptions {
            time_to_live: storage.ttl,
            prefix: storage.prefix.clone(),
            observer: Arc::clone(&self.observer),
        };
        Ok(Arc::new(RedisFmbCache::new(inner, self.redis(&storage.redis), options)))
    }

    async fn with_cache(
        &mut self,
        storage: &model::WithCacheStorage,
        place: &Place,
        instance: &InstanceName,
    ) -> Result<SharedStore, ComposeError> {
        let cache = self.storage(&storage.cache, instance).await?;
        let fallback = self.storage(&storage.fallback, instance).await?;
        let options = WithCacheOptions {
            defer_fallback_writes: storage.defer_fallback_writes,
            fallback_writers: storage.fallback_writers,
            deferred_bytes: DEFERRED_BYTES,
            journal: self.journal(storage).await.map_err(at(place))?,
            observer: Arc::clone(&self.observer),
        };
        let made = Arc::new(WithCache::open(cache, fallback, options).await.map_err(at(place))?);
        self.deferring.push(Arc::clone(&made));
        Ok(made)
    }

    /// The journal of deferred writes beside a cache on a disk that is ours.
    async fn journal(&self, storage: &model::WithCacheStorage) -> Result<Option<Journal>, StoreError> {
        match &storage.cache.value {
            Storage::Disk(disk) if storage.defer_fallback_writes && !self.beside => {
                Journal::open(disk.path.join("deferred")).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    async fn size_differentiated(
        &mut self,
        storage: &model::SizeDifferentiatedStorage,
        instance: &InstanceName,
    ) -> Result<SharedStore, ComposeError> {
        let mut limited = Vec::with_capacity(storage.limited.len());
        for entry in &storage.limited {
            limited.push((entry.max_size, self.storage(&entry.storage, instance).await?));
        }
        let fallback = self.storage(&storage.fallback, instance).await?;
        Ok(Arc::new(SizeDifferentiated::new(limited, fallback)))
    }

    async fn sharded(
        &mut self,
        storage: &model::ShardedStorage,
        place: &Place,
        instance: &InstanceName,
    ) -> Result<SharedStore, ComposeError> {
        let mut shards = Vec::with_capacity(storage.shards.len());
        for shard in &storage.shards {
            shards.push((shard.name.clone(), self.storage(&shard.storage, instance).await?));
        }
        Ok(Arc::new(Sharded::new(shards).map_err(at(place))?))
    }

    async fn replicated(
        &mut self,
        storage: &model::ReplicatedStorage,
        place: &Place,
        instance: &InstanceName,
    ) -> Result<SharedStore, ComposeError> {
        let mut stores = Vec::with_capacity(storage.storages.len());
        for replica in &storage.storages {
            stores.push(self.storage(replica, instance).await?);
        }
        let options = ReplicatedOptions {
            queue_size: storage.queue_size,
            writers: storage.workers,
            read_replication: storage.read_replication,
            observer: Arc::clone(&self.observer),
        };
        Ok(Arc::new(Replicated::new(stores, options).map_err(at(place))?))
    }
}

fn at(place: &Place) -> impl Fn(StoreError) -> ComposeError {
    move |source| ComposeError::Store { place: place.to_string(), source }
}

fn dependency(place: &Place, store: &SharedStore) -> Dependency {
    let store = Arc::clone(store);
    let probe = move || -> crate::readiness::Answer {
        let store = Arc::clone(&store);
        Box::pin(async move { store.probe().await.map_err(|error| error.client_message()) })
    };
    Dependency { name: place.to_string(), probe: Box::new(probe) }
}

/// The tag's name as metrics label it.
const fn label(storage: &Storage) -> &'static str {
    match storage {
        Storage::Lru(_) => "lru",
        Storage::Disk(_) => "disk",
        Storage::Redis(_) => "redis",
        Storage::S3(_) => "s3",
        Storage::Sql(_) => "sql",
        Storage::Remote(_) => "remote",
        Storage::WithCache(_) => "with_cache",
        Storage::SizeDifferentiated(_) => "size_differentiated",
        Storage::Sharded(_) => "sharded",
        Storage::Replicated(_) => "replicated",
        Storage::SqlIndex(_) => "sql_index",
        Storage::RedisIndex(_) => "redis_index",
        Storage::RedisFmbCache(_) => "redis_fmb_cache",
        Storage::ExistenceCache(_) => "existence_cache",
        Storage::Zstd(_) => "zstd",
    }
}
