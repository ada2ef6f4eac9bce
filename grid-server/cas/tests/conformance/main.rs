//! The matrix: every backend and every decorator over each sensible backend, against every rule of the suite.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code: a panic is its verdict")]

mod buildgrid;
mod databases;
mod decorators;
mod disk;
mod faults;
mod full_disk;
mod index;
mod kills;
mod lru;
mod matrix;
mod mixed;
mod packed;
mod postgres;
mod redis;
mod redis_server;
mod remote;
mod s3;
mod s3_server;
mod s3_uploads;
mod s3_versions;
mod served;
mod tolerance;
mod trees;
mod upkeep;

use grid_cas::blob_store_conformance;
use grid_cas::conformance::Subject;

use self::trees::*;

/// Makes the suite of each tree, and a list of them: name, what it is, what it is on.
macro_rules! matrix {
    ($($name:ident: $what:literal on $server:literal => $subject:expr;)*) => {
        $(blob_store_conformance!($name, $subject);)*

        /// What each tree is, on which server, and what it is held to.
        async fn trees() -> Vec<(&'static str, &'static str, Subject)> {
            vec![$(($what, $server, $subject)),*]
        }
    };
}

matrix! {
    lru_storage: "`!lru-storage`" on "memory" => Subject::new(lru(ROOM));
    disk_storage: "`!disk-storage`" on "a file system" => disk_subject(None).await;
    disk_storage_with_a_limit: "`!disk-storage` with `max-size`" on "a file system" => disk_subject(Some(ROOM)).await;
    redis_storage: "`!redis-storage`" on "Redis" => redis::subject().await;
    redis_index: "verify over `!redis-index`" on "Redis, memory" => databases::redis_subject().await;
    redis_fmb_cache_over_lru: "`!redis-fmb-cache`" on "Redis, memory" => Subject::new(fmb_cache(lru(ROOM), redis_server::database().await));
    s3_storage: "`!s3-storage`" on "an S3 server" => s3_server::subject(false).await;
    sql_storage_on_sqlite: "`!sql-storage`" on "SQLite" => databases::sql_storage(databases::sqlite_pool().await).await;
    sql_storage_on_postgresql: "`!sql-storage`" on "PostgreSQL" => databases::sql_storage(databases::postgres_pool().await).await;
    zstd_on_disk: "`!zstd-storage`" on "a file system" => packed::on_disk(None).await;
    zstd_on_disk_with_a_limit: "`!zstd-storage` over a disk with `max-size`" on "a file system" => packed::on_disk(Some(ROOM)).await;
    zstd_on_redis: "`!zstd-storage`" on "Redis" => packed::on_redis().await;
    zstd_on_s3: "`!zstd-storage`" on "an S3 server" => packed::on_s3().await;
    zstd_on_sqlite: "`!zstd-storage`" on "SQLite" => packed::on_sql(databases::sqlite_pool().await).await;
    zstd_on_postgresql: "`!zstd-storage`" on "PostgreSQL" => packed::on_sql(databases::postgres_pool().await).await;
    remote_storage: "`!remote-storage`" on "a second server" => remote::subject().await;
    verify_over_remote: "verify over `!remote-storage`" on "a second server" => map(remote::subject().await, verify).verifying();
    verify_over_lru: "verify over `!lru-storage`" on "memory" => Subject::new(verify(lru(ROOM))).verifying();
    verify_over_disk: "verify over `!disk-storage`" on "a file system" => map(disk_subject(None).await, verify).verifying();
    metrics_over_lru: "metrics over `!lru-storage`" on "memory" => Subject::new(metrics(lru(ROOM)));
    existence_cache_over_lru: "`!existence-cache`" on "memory" => Subject::new(existence_cache(lru(ROOM)));
    size_differentiated: "`!size-differentiated-storage`" on "memory" => Subject::new(size_differentiated());
    sharded: "`!sharded-storage`" on "memory" => Subject::new(sharded());
    with_cache: "`!with-cache-storage`" on "memory" => Subject::new(with_cache(lru(ROOM), lru(ROOM)));
    with_a_tiny_cache: "`!with-cache-storage`, a cache that holds next to nothing" on "memory" => Subject::new(with_cache(lru(1_000), lru(ROOM)));
    with_cache_deferred: "`!with-cache-storage`, deferred writes" on "memory" => Subject::new(deferred(lru(ROOM), lru(ROOM), ROOM));
    with_cache_deferred_and_full: "`!with-cache-storage`, deferred writes, no room in the queue" on "memory" => Subject::new(deferred(lru(ROOM), lru(ROOM), 0));
    lru_over_disk: "`!with-cache-storage`, memory before a disk" on "a file system" => map(disk_subject(None).await, |disk| with_cache(lru(100_000), disk));
    replicated: "`!replicated-storage`" on "memory" => Subject::new(replicated(lru(ROOM), lru(ROOM)));
    verify_over_metrics_over_sharded_caches: "verify over metrics over `!existence-cache` over `!sharded-storage`" on "memory" => Subject::new(verify(metrics(existence_cache(sharded())))).verifying();
    sql_index_on_postgres: "verify over `!sql-index`" on "PostgreSQL, memory" => databases::subject(databases::postgres_pool().await, 0).await;
    sql_index_on_postgres_inline: "verify over `!sql-index` with small blobs in the index" on "PostgreSQL, memory" => databases::subject(databases::postgres_pool().await, 100_000).await;
    sql_index_on_sqlite: "verify over `!sql-index`" on "SQLite, memory" => databases::subject(databases::sqlite_pool().await, 0).await;
    sql_index_on_sqlite_inline: "verify over `!sql-index` with small blobs in the index" on "SQLite, memory" => databases::subject(databases::sqlite_pool().await, 100_000).await;
    verify_over_redis: "verify over `!redis-storage`" on "Redis" => mixed::on_redis(verify).await.verifying();
    existence_cache_over_redis: "`!existence-cache`" on "Redis" => mixed::on_redis(existence_cache).await;
    verify_over_metrics_over_existence_cache_over_s3: "verify over metrics over `!existence-cache`" on "an S3 server" => mixed::on_s3(|s3| verify(metrics(existence_cache(s3)))).await.verifying();
    redis_fmb_cache_over_redis: "`!redis-fmb-cache` over `!redis-storage`" on "Redis" => { let cache = redis_server::database().await; mixed::on_redis(|redis| fmb_cache(redis, cache)).await };
    size_differentiated_over_redis_and_s3: "`!size-differentiated-storage`, small blobs in Redis" on "Redis, an S3 server" => mixed::on_both(size_differentiated_over).await;
    sharded_over_redis_and_s3: "`!sharded-storage`" on "Redis, an S3 server, memory" => mixed::on_both(|redis, s3| sharded_over(vec![redis, s3, lru(ROOM)])).await;
    replicated_over_redis_and_s3: "`!replicated-storage`" on "Redis, an S3 server" => mixed::on_both(replicated).await;
    redis_over_s3: "`!with-cache-storage`, Redis before S3" on "Redis, an S3 server" => mixed::on_both(with_cache).await;
    redis_over_s3_deferred: "`!with-cache-storage`, Redis before S3, deferred writes" on "Redis, an S3 server" => mixed::on_both(|redis, s3| deferred(redis, s3, ROOM)).await;
    sql_index_over_s3: "verify over `!sql-index` with small blobs in the index" on "PostgreSQL, an S3 server" => mixed::sql_index_on_s3().await;
    redis_index_over_s3: "verify over `!redis-index`" on "Redis, an S3 server" => mixed::redis_index_on_s3().await;
}
