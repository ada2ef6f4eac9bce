//! Trees of stores to test.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use grid_cas::backends::disk::{Disk, DiskOptions};
use grid_cas::backends::lru::{Lru, LruOptions};
use grid_cas::conformance::Subject;
use grid_cas::conformance::faulty::Broken;
use grid_cas::decorators::existence_cache::{ExistenceCache, ExistenceCacheOptions};
use grid_cas::decorators::metrics::Metrics;
use grid_cas::decorators::redis_fmb_cache::{RedisFmbCache, RedisFmbCacheOptions};
use grid_cas::decorators::replicated::{Replicated, ReplicatedOptions};
use grid_cas::decorators::sharded::Sharded;
use grid_cas::decorators::size_differentiated::SizeDifferentiated;
use grid_cas::decorators::verify::Verify;
use grid_cas::decorators::with_cache::{WithCache, WithCacheOptions};
use grid_cas::form::Form;
use grid_cas::observer::{SharedObserver, unobserved};
use grid_cas::redis_client::RedisConnection;
use grid_cas::{SharedStore, StoreError};
use grid_core::{Clock, SystemClock};

/// Room enough that nothing is evicted unless a test wants it.
pub(crate) const ROOM: u64 = 1 << 30;

pub(crate) fn lru(size: u64) -> SharedStore {
    Arc::new(Lru::new(LruOptions { size, name: "lru".into(), observer: unobserved() }))
}

pub(crate) fn disk_options(path: &Path, max_size: Option<u64>) -> DiskOptions {
    let observer = unobserved();
    let sync = max_size.is_some();
    DiskOptions {
        path: path.into(),
        max_size,
        sync,
        form: Form::Plain,
        beside: false,
        name: "disk".into(),
        observer,
    }
}

pub(crate) async fn disk(
    path: &Path,
    max_size: Option<u64>,
    clock: Arc<dyn Clock>,
) -> Result<Disk, StoreError> {
    Disk::open(disk_options(path, max_size), clock).await
}

pub(crate) async fn disk_subject(max_size: Option<u64>) -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let store = disk(folder.path(), max_size, Arc::new(SystemClock)).await.unwrap();
    Subject::new(Arc::new(store)).keeping(folder)
}

/// The subject with its store inside of what `wrap` makes around it.
pub(crate) fn map(mut subject: Subject, wrap: impl FnOnce(SharedStore) -> SharedStore) -> Subject {
    subject.store = wrap(subject.store);
    subject
}

pub(crate) fn verify(store: SharedStore) -> SharedStore {
    Arc::new(Verify::new(store))
}

pub(crate) fn metrics(store: SharedStore) -> SharedStore {
    Arc::new(Metrics::new(store, "lru", unobserved()))
}

pub(crate) fn existence_cache(store: SharedStore) -> SharedStore {
    let time_to_live = Duration::from_secs(3600);
    Arc::new(ExistenceCache::new(
        store,
        ExistenceCacheOptions { entries: 1_000, time_to_live, observer: unobserved() },
    ))
}

pub(crate) fn size_differentiated() -> SharedStore {
    Arc::new(SizeDifferentiated::new(vec![(100_000, lru(ROOM)), (100, lru(ROOM))], lru(ROOM)))
}

/// Blobs of less than 1,000 bytes in the first.
pub(crate) fn size_differentiated_over(small: SharedStore, large: SharedStore) -> SharedStore {
    Arc::new(SizeDifferentiated::new(vec![(1_000, small)], large))
}

pub(crate) fn sharded() -> SharedStore {
    sharded_over(vec![lru(ROOM), lru(ROOM), lru(ROOM)])
}

pub(crate) fn sharded_over(stores: Vec<SharedStore>) -> SharedStore {
    let names = ["a", "b", "shard-2"].map(ToOwned::to_owned);
    Arc::new(Sharded::new(names.into_iter().zip(stores).collect()).unwrap())
}

pub(crate) fn with_cache_options(observer: SharedObserver) -> WithCacheOptions {
    WithCacheOptions {
        defer_fallback_writes: false,
        fallback_writers: 2,
        deferred_bytes: 0,
        journal: None,
        observer,
    }
}

pub(crate) fn with_cache(cache: SharedStore, fallback: SharedStore) -> SharedStore {
    Arc::new(WithCache::new(cache, fallback, with_cache_options(unobserved())))
}

pub(crate) fn deferred(cache: SharedStore, fallback: SharedStore, deferred_bytes: u64) -> SharedStore {
    let options =
        WithCacheOptions { defer_fallback_writes: true, deferred_bytes, ..with_cache_options(unobserved()) };
    Arc::new(WithCache::new(cache, fallback, options))
}

pub(crate) fn replicated(first: SharedStore, second: SharedStore) -> SharedStore {
    let options =
        ReplicatedOptions { queue_size: 100, writers: 2, read_replication: true, observer: unobserved() };
    Arc::new(Replicated::new(vec![first, second], options).unwrap())
}

pub(crate) fn fmb_cache(store: SharedStore, connection: Arc<RedisConnection>) -> SharedStore {
    let time_to_live = Duration::from_secs(3_600);
    let options = RedisFmbCacheOptions { time_to_live, prefix: "C".into(), observer: unobserved() };
    Arc::new(RedisFmbCache::new(store, connection, options))
}

/// A store that is away.
pub(crate) fn broken() -> SharedStore {
    Arc::new(Broken)
}
