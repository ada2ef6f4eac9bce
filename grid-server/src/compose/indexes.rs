//! Indexes: each is one object with the storage behind it, for those who serve it and for those who clean it.

use std::sync::Arc;

use grid_cas::SharedStore;
use grid_cas::cleanup::Policy;
use grid_cas::decorators::sql_index::{SqlIndex, SqlIndexOptions};
use grid_cas::index::BlobIndex;
use grid_cas::index::redis::RedisIndex;
use grid_cas::index::sql;
use grid_config::model::{self, Cleanup, Place, Shared, Storage};
use grid_core::{InstanceName, SystemClock};

use super::databases::pool;
use super::remotes::{behind_storage, storage_varies};
use super::{ComposeError, Composer, key};
use crate::cleaning::Cleaner;

/// How many digests a call to an index in Redis names.
const REDIS_WINDOW: usize = 10_000;

/// An index with what it indexes.
#[derive(Clone, Debug)]
pub(super) struct Indexed {
    pub(super) index: Arc<dyn BlobIndex>,
    pub(super) storage: SharedStore,
}

impl Composer<'_> {
    /// `!sql-index` as a storage.
    pub(super) async fn sql_index(
        &mut self,
        item: &Shared<Storage>,
        index: &model::SqlIndex,
        instance: &InstanceName,
    ) -> Result<SharedStore, ComposeError> {
        let Indexed { index: rows, storage } = self.sql_indexed(item, index, instance).await?;
        let options = SqlIndexOptions {
            max_inline_blob_size: index.max_inline_size,
            window: index.statement_limit,
            observer: Arc::clone(&self.observer),
        };
        Ok(Arc::new(SqlIndex::new(storage, rows, Arc::new(SystemClock), options)))
    }

    /// `!redis-index` as a storage.
    pub(super) async fn redis_index(
        &mut self,
        item: &Shared<Storage>,
        index: &model::RedisIndex,
        instance: &InstanceName,
    ) -> Result<SharedStore, ComposeError> {
        let Indexed { index: keys, storage } = self.redis_indexed(item, index, instance).await?;
        let options = SqlIndexOptions {
            max_inline_blob_size: 0,
            window: REDIS_WINDOW,
            observer: Arc::clone(&self.observer),
        };
        Ok(Arc::new(SqlIndex::new(storage, keys, Arc::new(SystemClock), options)))
    }

    async fn redis_indexed(
        &mut self,
        item: &Shared<Storage>,
        index: &model::RedisIndex,
        instance: &InstanceName,
    ) -> Result<Indexed, ComposeError> {
        let key = key(item, storage_varies(item).then_some(instance));
        if let Some(indexed) = self.indexes.get(&key) {
            return Ok(indexed.clone());
        }
        let storage = self.storage(&index.storage, instance).await?;
        let keys = Arc::new(RedisIndex::new(self.redis(&index.redis), &index.prefix));
        let indexed = Indexed { index: keys, storage };
        self.indexes.insert(key, indexed.clone());
        Ok(indexed)
    }

    async fn sql_indexed(
        &mut self,
        item: &Shared<Storage>,
        index: &model::SqlIndex,
        instance: &InstanceName,
    ) -> Result<Indexed, ComposeError> {
        let key = key(item, storage_varies(item).then_some(instance));
        if let Some(indexed) = self.indexes.get(&key) {
            return Ok(indexed.clone());
        }
        let storage = self.storage(&index.storage, instance).await?;
        let pool = pool(self.sql(&index.sql).await?);
        let store = match key.1.as_ref() {
            Some(instance) => format!("{}/{instance}", index.name),
            None => index.name.clone(),
        };
        self.claim_name(index, &store, &item.place)?;
        let options = sql::SqlIndexOptions {
            store: store.into(),
            precision: index.refresh_access_after,
            name: item.place.to_string().into(),
        };
        let indexed = Indexed { index: sql::index(pool, options), storage };
        self.indexes.insert(key, indexed.clone());
        Ok(indexed)
    }

    /// Two indexes that share their rows would vouch for each other's blobs.
    fn claim_name(
        &mut self,
        index: &model::SqlIndex,
        store: &str,
        place: &Place,
    ) -> Result<(), ComposeError> {
        let rows = (index.sql.connection_string.reveal().to_owned(), store.to_owned());
        if self.index_rows.insert(rows) {
            return Ok(());
        }
        let what = format!(
            "another !sql-index has its rows in the same database under the name {:?}; use one anchor for \
             both, or give one an `index-name` of its own",
            index.name
        );
        Err(ComposeError::Contradiction { place: place.to_string(), what })
    }

    /// What keeps the storages of `cleanup` within their bounds. `from_outside` tells that another process serves them.
    pub(super) async fn cleaners(&mut self, from_outside: bool) -> Result<Vec<Cleaner>, ComposeError> {
        let config = self.config;
        let mut cleaners = Vec::with_capacity(config.cleanup.len());
        for cleanup in &config.cleanup {
            cleaners.push(self.cleaner(cleanup, from_outside).await?);
        }
        Ok(cleaners)
    }

    async fn cleaner(&mut self, cleanup: &Cleanup, from_outside: bool) -> Result<Cleaner, ComposeError> {
        let item = &cleanup.index;
        let refuse = |what: &str| {
            let (place, what) = (item.place.to_string(), what.to_owned());
            Err(ComposeError::Contradiction { place, what })
        };
        if behind_storage(item).is_some() {
            return refuse("its blobs are in another server, which must be cleaned where it is");
        }
        if from_outside && in_memory(item) {
            return refuse(
                "its blobs are in the memory of the server, which cleans them itself while it serves",
            );
        }
        let anyone = InstanceName::default();
        let (Indexed { index, storage }, policy) = match &item.value {
            Storage::SqlIndex(index) => {
                (self.sql_indexed(item, index, &anyone).await?, sql_policy(cleanup, index))
            }
            Storage::RedisIndex(index) => (self.redis_indexed(item, index, &anyone).await?, policy(cleanup)),
            _ => return refuse("it is no index: only those know what was used when"),
        };
        Ok(Cleaner { name: cleanup.name.clone(), index, storage, policy })
    }
}

fn policy(cleanup: &Cleanup) -> Policy {
    Policy {
        blob_counts: cleanup.counts.map(|counts| (counts.high, counts.low)),
        only_if_unused_for: cleanup.only_if_unused_for.unwrap_or_default(),
        large_blobs: cleanup.large.map(|large| (large.threshold, large.lifetime)),
        retry_limit: cleanup.retry_limit,
        ..Policy::new(cleanup.high_watermark, cleanup.low_watermark, cleanup.batch_size)
    }
}

fn sql_policy(cleanup: &Cleanup, index: &model::SqlIndex) -> Policy {
    Policy {
        batch_blobs: u64::try_from(index.window_size).unwrap_or(u64::MAX),
        promised_lifetime: index.promised_lifetime,
        ..policy(cleanup)
    }
}

/// Whether some of a storage's blobs are in the process that serves them.
fn in_memory(storage: &Storage) -> bool {
    match storage {
        Storage::Lru(_) => true,
        Storage::Disk(_) | Storage::Redis(_) | Storage::S3(_) | Storage::Sql(_) | Storage::Remote(_) => false,
        Storage::WithCache(with) => in_memory(&with.fallback),
        Storage::SizeDifferentiated(sized) => {
            in_memory(&sized.fallback) || sized.limited.iter().any(|entry| in_memory(&entry.storage))
        }
        Storage::Sharded(sharded) => sharded.shards.iter().any(|shard| in_memory(&shard.storage)),
        Storage::Replicated(replicated) => replicated.storages.iter().any(|storage| in_memory(storage)),
        Storage::SqlIndex(index) => in_memory(&index.storage),
        Storage::RedisIndex(index) => in_memory(&index.storage),
        Storage::RedisFmbCache(cache) => in_memory(&cache.storage),
    }
}
