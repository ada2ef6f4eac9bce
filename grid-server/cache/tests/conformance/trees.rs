//! Trees of caches to test.

use std::sync::Arc;

use grid_cache::SharedCache;
use grid_cache::backends::lru::Lru;
use grid_cache::decorators::cache_failed_actions::SuccessesOnly;
use grid_cache::decorators::completeness::{Completeness, CompletenessOptions};
use grid_cache::decorators::mirrored::Mirrored;
use grid_cache::decorators::sharded::Sharded;
use grid_cache::decorators::with_cache::WithCache;
use grid_cache::decorators::write_once::WriteOnce;
use grid_cache::observer::{SharedCacheObserver, unobserved};
use grid_cas::SharedStore;
use grid_cas::backends::lru as cas_lru;

pub(crate) fn lru() -> SharedCache {
    lru_of(1_000)
}

pub(crate) fn lru_of(entries: usize) -> SharedCache {
    Arc::new(Lru::new(entries))
}

pub(crate) fn storage() -> SharedStore {
    let observer = grid_cas::observer::unobserved();
    Arc::new(cas_lru::Lru::new(cas_lru::LruOptions { size: 1 << 30, name: "lru".into(), observer }))
}

pub(crate) fn write_once(cache: SharedCache) -> SharedCache {
    Arc::new(WriteOnce::new(cache))
}

pub(crate) fn successes_only(cache: SharedCache) -> SharedCache {
    Arc::new(SuccessesOnly::new(cache))
}

pub(crate) fn with_cache(cache: SharedCache, fallback: SharedCache) -> SharedCache {
    Arc::new(WithCache::new(cache, fallback, unobserved()))
}

pub(crate) fn mirrored(first: SharedCache, second: SharedCache) -> SharedCache {
    Arc::new(Mirrored::new(first, second, unobserved()))
}

pub(crate) fn sharded() -> SharedCache {
    sharded_over(lru(), lru())
}

pub(crate) fn sharded_over(a: SharedCache, b: SharedCache) -> SharedCache {
    let shards = vec![("a".to_owned(), a), ("b".to_owned(), b)];
    Arc::new(Sharded::new(shards, Some("salt")).unwrap())
}

pub(crate) fn complete(cache: SharedCache) -> SharedCache {
    complete_in(cache, storage(), unobserved())
}

pub(crate) fn complete_in(
    cache: SharedCache,
    storage: SharedStore,
    observer: SharedCacheObserver,
) -> SharedCache {
    Arc::new(Completeness::new(cache, storage, CompletenessOptions { tree_cache_bytes: 1 << 20, observer }))
}
