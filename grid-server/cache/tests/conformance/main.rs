//! The matrix: every backend and every decorator, against every rule of the suite.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code: a panic is its verdict")]

mod completeness;
mod decorators;
mod faults;
mod keyed;
mod matrix;
mod remote;
mod sql;
mod trees;

use grid_cache::action_cache_conformance;
use grid_cache::conformance::Subject;

use self::trees::*;

/// Makes the suite of each tree, and a list of them: name, what it is, what it is on.
macro_rules! matrix {
    ($($name:ident: $what:literal on $server:literal => $subject:expr;)*) => {
        $(action_cache_conformance!($name, $subject);)*

        /// What each tree is, on which server, and what it is held to.
        async fn trees() -> Vec<(&'static str, &'static str, Subject)> {
            vec![$(($what, $server, $subject)),*]
        }
    };
}

matrix! {
    lru_action_cache: "`!lru-action-cache`" on "memory" => Subject::new(lru());
    redis_action_cache: "`!redis-action-cache`" on "Redis" => keyed::redis_subject(keyed::RESULTS).await;
    redis_action_cache_with_digests: "`!redis-action-cache`, `entry-type: action-result-digest`" on "Redis, memory" => keyed::redis_subject(keyed::DIGESTS).await;
    s3_action_cache: "`!s3action-cache`" on "an S3 server" => keyed::s3_subject(keyed::RESULTS).await;
    s3_action_cache_with_digests: "`!s3action-cache`, `entry-type: action-result-digest`" on "an S3 server, memory" => keyed::s3_subject(keyed::DIGESTS).await;
    sql_action_cache_on_sqlite: "`!sql-action-cache`" on "SQLite" => sql::sqlite().await;
    sql_action_cache_on_postgresql: "`!sql-action-cache`" on "PostgreSQL" => sql::postgres().await;
    remote_action_cache: "`!remote-action-cache`" on "a second server" => remote::subject(lru()).await;
    write_once: "`!write-once-action-cache`" on "memory" => Subject::new(write_once(lru())).keeping_the_first();
    write_once_over_redis: "`!write-once-action-cache`" on "Redis" => keyed::redis_subject(keyed::RESULTS).await.map(write_once).keeping_the_first();
    write_once_over_s3: "`!write-once-action-cache`" on "an S3 server" => keyed::s3_subject(keyed::RESULTS).await.map(write_once).keeping_the_first();
    write_once_over_sqlite: "completeness over `!write-once-action-cache`" on "SQLite" => sql::sqlite().await.map(|cache| complete(write_once(cache))).keeping_the_first();
    write_once_over_sql: "completeness over `!write-once-action-cache`" on "PostgreSQL" => sql::postgres().await.map(|cache| complete(write_once(cache))).keeping_the_first();
    with_cache_action_cache: "`!with-cache-action-cache`" on "memory" => Subject::new(with_cache(lru(), lru()));
    with_a_tiny_cache: "`!with-cache-action-cache`, a cache of one entry" on "memory" => Subject::new(with_cache(lru_of(1), lru()));
    with_cache_over_redis: "`!with-cache-action-cache`, memory before Redis" on "Redis" => keyed::redis_subject(keyed::RESULTS).await.map(|redis| with_cache(lru(), redis));
    with_cache_over_sql: "`!with-cache-action-cache`, memory before a database" on "PostgreSQL" => sql::postgres().await.map(|sql| with_cache(lru(), sql));
    mirrored: "`!mirrored-action-cache`" on "memory" => Subject::new(mirrored(lru(), lru()));
    mirrored_in_sql: "`!mirrored-action-cache`, Redis and a database" on "Redis, PostgreSQL" => {
        let sql = sql::postgres().await;
        let (second, redis) = (sql.cache.clone(), keyed::redis_subject(keyed::RESULTS).await);
        redis.map(|first| mirrored(first, second)).keeping_too(sql)
    };
    sharded: "`!sharded-action-cache`" on "memory" => Subject::new(sharded());
    cache_failed_actions: "`cache-failed-actions: no`" on "memory" => Subject::new(successes_only(lru()));
    completeness_over_lru: "completeness" on "memory" => Subject::new(complete(lru()));
    completeness_over_redis: "completeness" on "Redis" => keyed::redis_subject(keyed::RESULTS).await.map(complete);
    completeness_over_s3: "completeness" on "an S3 server" => keyed::s3_subject(keyed::RESULTS).await.map(complete);
    completeness_over_write_once: "completeness over `!write-once-action-cache`" on "memory" => Subject::new(complete(write_once(lru()))).keeping_the_first();
    remote_over_completeness: "`!remote-action-cache` of completeness" on "a second server" => remote::subject(complete(lru())).await;
    remote_over_mirrored: "`!remote-action-cache` of `!mirrored-action-cache`" on "a second server" => remote::subject(mirrored(lru(), lru())).await;
    remote_over_sharded: "`!remote-action-cache` of `!sharded-action-cache`" on "a second server" => remote::subject(sharded()).await;
    completeness_over_remote: "completeness over `!remote-action-cache`" on "a second server" => remote::subject(lru()).await.map(complete);
}
