//! Indexes: each is one object with the storage behind it, for those who serve it and for those who clean it.

use std::collections::HashMap;
use std::sync::Arc;

use grid_cas::buildgrid::BuildGrid;
use grid_cas::cleanup::Policy;
use grid_cas::decorators::sql_index::{SqlIndex, SqlIndexOptions};
use grid_cas::fsck::Indexed;
use grid_cas::index::redis::RedisIndex;
use grid_cas::index::sql;
use grid_cas::index::timed::Timed;
use grid_cas::index::{BlobIndex, IndexClock};
use grid_cas::sql::SqlPool;
use grid_cas::{Inventory, SharedStore};
use grid_config::model::{self, Cleanup, Place, Shared, Storage};
use grid_core::{InstanceName, SystemClock};

use super::databases::{described, pool};
use super::remembered::remembered;
use super::remotes::{behind_storage, storage_varies};
use super::{ComposeError, Composer, Key, key};
use crate::cleaning::Cleaner;

/// How many digests a call to an index in Redis names.
const REDIS_WINDOW: usize = 10_000;

/// An index of the configuration.
pub(crate) struct Found {
    /// Where it is.
    pub(crate) place: Place,
    /// The index, and what it is of.
    pub(crate) indexed: Indexed,
    /// The two together.
    pub(crate) store: SharedStore,
    /// What BuildGrid may have beside it.
    pub(crate) buildgrid: Option<BuildGrid>,
    /// Whether a storage behind it evicts by itself.
    pub(crate) evicts: bool,
}

impl Composer<'_> {
    /// An index as a storage.
    pub(super) async fn index(
        &mut self,
        item: &Shared<Storage>,
        instance: &InstanceName,
    ) -> Result<SharedStore, ComposeError> {
        let Indexed { index, storage, .. } = self.indexed(item, instance).await?;
        let (max_inline_blob_size, window) = match &item.value {
            Storage::SqlIndex(sql) => (sql.max_inline_size, sql.statement_limit),
            _ => (0, REDIS_WINDOW),
        };
        let options = SqlIndexOptions { max_inline_blob_size, window, observer: Arc::clone(&self.observer) };
        let clock = IndexClock::following(Arc::clone(&index), Arc::new(SystemClock)).await;
        Ok(Arc::new(SqlIndex::new(storage, index, clock, options)))
    }

    /// An index with what it indexes.
    async fn indexed(
        &mut self,
        item: &Shared<Storage>,
        instance: &InstanceName,
    ) -> Result<Indexed, ComposeError> {
        let key = key(item, storage_varies(item).then_some(instance));
        if let Some(indexed) = self.indexes.get(&key) {
            return Ok(indexed.clone());
        }
        let below = match &item.value {
            Storage::SqlIndex(index) => &index.storage,
            Storage::RedisIndex(index) => &index.storage,
            _ => return contradiction(item, "it is no index: only those know what was used when"),
        };
        let storage = self.storage(below, instance).await?;
        let index: Arc<dyn BlobIndex> = match &item.value {
            Storage::RedisIndex(index) => Arc::new(RedisIndex::new(self.redis(&index.redis), &index.prefix)),
            Storage::SqlIndex(index) => self.rows(index, &key, &item.place).await?,
            _ => return contradiction(item, "it is no index"),
        };
        let backends = self.backends(below);
        let indexed = Indexed { index, storage, backends };
        self.indexes.insert(key, indexed.clone());
        Ok(indexed)
    }

    /// The rows of an `!sql-index`, which speaks for one instance where what it indexes does.
    async fn rows(
        &mut self,
        index: &model::SqlIndex,
        key: &Key,
        place: &Place,
    ) -> Result<Arc<dyn BlobIndex>, ComposeError> {
        let pool = pool(self.sql(&index.sql).await?);
        let store = match &key.1 {
            Some(instance) => format!("{}/{instance}", index.name),
            None => index.name.clone(),
        };
        self.claim_name(index, &store, place)?;
        let (store, name): (Arc<str>, Arc<str>) = (store.into(), described(place, Some(&index.sql)).into());
        if let SqlPool::Postgres(pool) = &pool {
            let buildgrid = BuildGrid::new(pool.clone(), Arc::clone(&store), Arc::clone(&name));
            self.buildgrids.insert(key.clone(), buildgrid);
        }
        let options = sql::SqlIndexOptions { store, precision: index.refresh_access_after, name };
        Ok(Arc::new(Timed::new(sql::index(pool, options), "sql_index", Arc::clone(&self.observer))))
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
        self.check_reachable(item, from_outside)?;
        let mut policy = match &item.value {
            Storage::SqlIndex(index) => sql_policy(cleanup, index),
            Storage::RedisIndex(index) => {
                Policy { promised_lifetime: index.promised_lifetime, ..policy(cleanup) }
            }
            _ => policy(cleanup),
        };
        policy.promised_lifetime += remembered(self.config, item);
        let Found { indexed: Indexed { index, storage, .. }, buildgrid, .. } = self.found(item).await?;
        Ok(Cleaner { name: cleanup.name.clone(), index, storage, policy, buildgrid, shared: false })
    }

    async fn found(&mut self, item: &Shared<Storage>) -> Result<Found, ComposeError> {
        let instance = InstanceName::default();
        let indexed = self.indexed(item, &instance).await?;
        let buildgrid = self.buildgrids.get(&key(item, storage_varies(item).then_some(&instance))).cloned();
        let store = self.storage(item, &instance).await?;
        let evicts = leaves(item).into_iter().any(evicts);
        Ok(Found { place: item.place.clone(), indexed, store, buildgrid, evicts })
    }

    /// Every index of the configuration, for those who compare it with what it indexes from outside.
    pub(super) async fn all_indexed(&mut self) -> Result<Vec<Found>, ComposeError> {
        let config = self.config;
        let mut items: Vec<&Shared<Storage>> = Vec::new();
        let cleaned = config.cleanup.iter().map(|cleanup| &cleanup.index);
        config.storages.iter().chain(cleaned).for_each(|item| find_indexes(item, &mut items));
        let mut found = Vec::with_capacity(items.len());
        let mut backends = HashMap::new();
        for item in items {
            self.check_reachable(item, true)?;
            for leaf in leaves(item) {
                if let Some(other) = backends.insert(Arc::as_ptr(leaf).addr(), &item.place) {
                    let what = format!("{other} indexes the same storage: neither knows what is the other's");
                    return contradiction(item, &what);
                }
            }
            found.push(self.found(item).await?);
        }
        Ok(found)
    }

    /// Refuses an index whose blobs can't be got at here.
    fn check_reachable(&self, item: &Shared<Storage>, from_outside: bool) -> Result<(), ComposeError> {
        if behind_storage(item).is_some() {
            return contradiction(
                item,
                "its blobs are in another server, which must be looked after where it is",
            );
        }
        if from_outside && in_memory(item) {
            return contradiction(
                item,
                "its blobs are in the memory of the server, which cleans them itself while it serves",
            );
        }
        Ok(())
    }

    /// The backends that a storage consists of, which are made by now.
    fn backends(&self, item: &Shared<Storage>) -> Vec<Arc<dyn Inventory>> {
        let made = |leaf: &Shared<Storage>| self.inventories.get(&key(leaf, None)).cloned();
        leaves(item).into_iter().filter_map(made).collect()
    }
}

fn contradiction<T>(item: &Shared<Storage>, what: &str) -> Result<T, ComposeError> {
    Err(ComposeError::Contradiction { place: item.place.to_string(), what: what.to_owned() })
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

/// What a storage is made of, one step down: caches in front are no part of it.
pub(super) fn parts(storage: &Storage) -> Vec<&Shared<Storage>> {
    match storage {
        Storage::Lru(_)
        | Storage::Disk(_)
        | Storage::Redis(_)
        | Storage::S3(_)
        | Storage::Sql(_)
        | Storage::Remote(_)
        // Its backend is its own, and can't be seen apart from it.
        | Storage::Zstd(_) => Vec::new(),
        Storage::WithCache(with) => vec![&with.fallback],
        Storage::SizeDifferentiated(sized) => {
            sized.limited.iter().map(|entry| &entry.storage).chain([&sized.fallback]).collect()
        }
        Storage::Sharded(sharded) => sharded.shards.iter().map(|shard| &shard.storage).collect(),
        Storage::Replicated(replicated) => replicated.storages.iter().collect(),
        Storage::SqlIndex(index) => vec![&index.storage],
        Storage::RedisIndex(index) => vec![&index.storage],
        Storage::RedisFmbCache(cache) => vec![&cache.storage],
        Storage::ExistenceCache(cache) => vec![&cache.storage],
    }
}

/// The backends at the bottom of a storage, each once.
pub(super) fn leaves(item: &Shared<Storage>) -> Vec<&Shared<Storage>> {
    let below = parts(item);
    if below.is_empty() {
        return vec![item];
    }
    let mut found: Vec<&Shared<Storage>> = Vec::new();
    for leaf in below.into_iter().flat_map(leaves) {
        if !found.iter().any(|known| Arc::ptr_eq(known, leaf)) {
            found.push(leaf);
        }
    }
    found
}

/// Adds the indexes at and below `item` that are not among `found`.
fn find_indexes<'c>(item: &'c Shared<Storage>, found: &mut Vec<&'c Shared<Storage>>) {
    let is_index = matches!(item.value, Storage::SqlIndex(_) | Storage::RedisIndex(_));
    if is_index && !found.iter().any(|known| Arc::ptr_eq(known, item)) {
        found.push(item);
    }
    parts(item).into_iter().for_each(|part| find_indexes(part, found));
}

/// Whether a backend keeps a limit by itself, whatever an index says.
fn evicts(leaf: &Shared<Storage>) -> bool {
    match &leaf.value {
        Storage::Disk(disk) => disk.max_size.is_some(),
        Storage::Zstd(packed) => evicts(&packed.storage),
        _ => false,
    }
}

/// Whether some of a storage's blobs are in the process that serves them.
fn in_memory(item: &Shared<Storage>) -> bool {
    leaves(item).into_iter().any(|leaf| matches!(leaf.value, Storage::Lru(_)))
}
