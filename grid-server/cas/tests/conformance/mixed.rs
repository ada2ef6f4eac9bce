//! Trees of decorators over backends that are reached by a network.

use std::sync::Arc;
use std::time::Duration;

use grid_cas::SharedStore;
use grid_cas::conformance::Subject;
use grid_cas::index::redis::RedisIndex;

use super::databases::{Hands, index, indexed, postgres_pool};
use super::trees::{map, verify};
use super::{redis, redis_server, s3_server};

/// `wrap` around an S3 storage.
pub(crate) async fn on_s3(wrap: impl FnOnce(SharedStore) -> SharedStore) -> Subject {
    map(s3_server::subject(false).await, wrap)
}

/// `wrap` around a Redis storage.
pub(crate) async fn on_redis(wrap: impl FnOnce(SharedStore) -> SharedStore) -> Subject {
    map(redis::subject().await, wrap)
}

/// `wrap` around a Redis storage and an S3 storage.
pub(crate) async fn on_both(wrap: impl FnOnce(SharedStore, SharedStore) -> SharedStore) -> Subject {
    let redis = redis::subject().await.store;
    on_s3(|s3| wrap(redis, s3)).await
}

/// An index in PostgreSQL before an S3 storage.
pub(crate) async fn sql_index_on_s3() -> Subject {
    let index = index(postgres_pool().await.0, Duration::ZERO);
    on_s3(|s3| verify(indexed(s3, index, Hands::new(), 100))).await.verifying()
}

/// An index in Redis before an S3 storage.
pub(crate) async fn redis_index_on_s3() -> Subject {
    let index = Arc::new(RedisIndex::new(redis_server::database().await, "A"));
    on_s3(|s3| verify(indexed(s3, index, Hands::new(), 0))).await.verifying()
}
