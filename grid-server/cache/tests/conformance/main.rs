//! The matrix: every backend and every decorator, against every rule of the suite.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code: a panic is its verdict")]

mod completeness;
mod decorators;
mod keyed;
mod remote;
mod sql;
mod trees;

use grid_cache::action_cache_conformance;
use grid_cache::conformance::Subject;

use self::trees::*;

action_cache_conformance!(lru_action_cache, Subject::new(lru()));
action_cache_conformance!(redis_action_cache, keyed::redis_subject(keyed::RESULTS).await);
action_cache_conformance!(redis_action_cache_with_digests, keyed::redis_subject(keyed::DIGESTS).await);
action_cache_conformance!(s3_action_cache, keyed::s3_subject(keyed::RESULTS).await);
action_cache_conformance!(s3_action_cache_with_digests, keyed::s3_subject(keyed::DIGESTS).await);
action_cache_conformance!(write_once, Subject::new(write_once(lru())).keeping_the_first());
action_cache_conformance!(with_cache_action_cache, Subject::new(with_cache(lru(), lru())));
action_cache_conformance!(mirrored, Subject::new(mirrored(lru(), lru())));
action_cache_conformance!(sharded, Subject::new(sharded()));
action_cache_conformance!(cache_failed_actions, Subject::new(successes_only(lru())));
action_cache_conformance!(completeness_over_lru, Subject::new(complete(lru())));
action_cache_conformance!(
    completeness_over_write_once,
    Subject::new(complete(write_once(lru()))).keeping_the_first()
);
action_cache_conformance!(sql_action_cache_on_sqlite, sql::sqlite().await);
action_cache_conformance!(sql_action_cache_on_postgresql, sql::postgres().await);
action_cache_conformance!(
    write_once_over_sql,
    sql::postgres().await.map(|cache| complete(write_once(cache))).keeping_the_first()
);
action_cache_conformance!(remote_action_cache, remote::subject().await);
