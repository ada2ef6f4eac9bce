//! The matrix: every backend and every decorator over each sensible backend, against every rule of the suite.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code: a panic is its verdict")]

mod decorators;
mod disk;
mod faults;
mod index;
mod kills;
mod lru;
mod postgres;
mod redis;
mod redis_server;
mod remote;
mod s3;
mod s3_server;
mod s3_versions;
mod served;
mod trees;
mod upkeep;

use grid_cas::blob_store_conformance;
use grid_cas::conformance::Subject;

use self::trees::*;

blob_store_conformance!(lru_storage, Subject::new(lru(ROOM)));
blob_store_conformance!(disk_storage, disk_subject(None).await);
blob_store_conformance!(disk_storage_with_a_limit, disk_subject(Some(ROOM)).await);
blob_store_conformance!(redis_storage, redis::subject().await);
blob_store_conformance!(redis_index, index::redis_subject().await);
blob_store_conformance!(
    redis_fmb_cache_over_lru,
    Subject::new(fmb_cache(lru(ROOM), redis_server::database().await))
);
blob_store_conformance!(s3_storage, s3_server::subject(false).await);
blob_store_conformance!(sql_storage_on_sqlite, index::sql_storage(index::sqlite_pool().await).await);
blob_store_conformance!(sql_storage_on_postgresql, index::sql_storage(index::postgres_pool().await).await);
blob_store_conformance!(remote_storage, remote::subject().await);
blob_store_conformance!(verify_over_remote, map(remote::subject().await, verify).verifying());
blob_store_conformance!(verify_over_lru, Subject::new(verify(lru(ROOM))).verifying());
blob_store_conformance!(verify_over_disk, map(disk_subject(None).await, verify).verifying());
blob_store_conformance!(metrics_over_lru, Subject::new(metrics(lru(ROOM))));
blob_store_conformance!(existence_cache_over_lru, Subject::new(existence_cache(lru(ROOM))));
blob_store_conformance!(size_differentiated, Subject::new(size_differentiated()));
blob_store_conformance!(sharded, Subject::new(sharded()));
blob_store_conformance!(with_cache, Subject::new(with_cache(lru(ROOM), lru(ROOM))));
blob_store_conformance!(with_a_tiny_cache, Subject::new(with_cache(lru(1_000), lru(ROOM))));
blob_store_conformance!(with_cache_deferred, Subject::new(deferred(lru(ROOM), lru(ROOM), ROOM)));
blob_store_conformance!(with_cache_deferred_and_full, Subject::new(deferred(lru(ROOM), lru(ROOM), 0)));
blob_store_conformance!(lru_over_disk, map(disk_subject(None).await, |disk| with_cache(lru(100_000), disk)));
blob_store_conformance!(replicated, Subject::new(replicated(lru(ROOM), lru(ROOM))));
blob_store_conformance!(
    verify_over_metrics_over_sharded_caches,
    Subject::new(verify(metrics(existence_cache(sharded())))).verifying()
);
blob_store_conformance!(sql_index_on_postgres, index::subject(index::postgres_pool().await, 0).await);
blob_store_conformance!(
    sql_index_on_postgres_inline,
    index::subject(index::postgres_pool().await, 100_000).await
);
blob_store_conformance!(sql_index_on_sqlite, index::subject(index::sqlite_pool().await, 0).await);
blob_store_conformance!(
    sql_index_on_sqlite_inline,
    index::subject(index::sqlite_pool().await, 100_000).await
);
