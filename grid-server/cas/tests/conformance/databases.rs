//! What tests of indexes share: a clock of their own, databases, and storages over these.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use grid_cas::SharedStore;
use grid_cas::backends::sql::Sql;
use grid_cas::conformance::Subject;
use grid_cas::decorators::sql_index::{SqlIndex, SqlIndexOptions};
use grid_cas::index::BlobIndex;
use grid_cas::index::redis::RedisIndex;
use grid_cas::index::sql::{self, SqlPool};
use grid_cas::observer::unobserved;
use grid_core::{Clock, SystemClock, Timestamp};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tokio::sync::watch;

use super::trees::{ROOM, lru, verify};
use super::{postgres, redis_server};

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub(crate) struct Hands {
    now: AtomicI64,
    /// How often it was looked at.
    pub(crate) looks: watch::Sender<u32>,
}

impl Hands {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { now: AtomicI64::new(SystemClock.now().0), looks: watch::Sender::new(0) })
    }

    pub(crate) fn forward(&self, time: Duration) {
        self.now.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        self.looks.send_modify(|looks| *looks += 1);
        Timestamp(self.now.load(Ordering::SeqCst))
    }
}

pub(crate) async fn postgres_pool() -> (SqlPool, Option<tempfile::TempDir>) {
    (SqlPool::Postgres(postgres::database().await), None)
}

pub(crate) async fn sqlite_pool() -> (SqlPool, Option<tempfile::TempDir>) {
    let folder = tempfile::tempdir().unwrap();
    (sqlite_pool_at(&folder.path().join("db")).await, Some(folder))
}

/// The database in this file, made if it is not there.
pub(crate) async fn sqlite_pool_at(path: &Path) -> SqlPool {
    let is_new = !path.exists();
    let file = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let file = file.busy_timeout(Duration::from_secs(60)).foreign_keys(true);
    let pool = SqlitePoolOptions::new().max_connections(4).connect_with(file).await.unwrap();
    if is_new {
        for migration in [
            include_str!("../../../../migrations/sqlite/0201_cas_index.sql"),
            include_str!("../../../../migrations/sqlite/0203_sql_storage.sql"),
            include_str!("../../../../migrations/sqlite/0204_cas_turns.sql"),
        ] {
            sqlx::raw_sql(migration).execute(&pool).await.unwrap();
        }
    }
    SqlPool::Sqlite(pool)
}

pub(crate) fn index(pool: SqlPool, precision: Duration) -> Arc<dyn BlobIndex> {
    sql::index(pool, sql::SqlIndexOptions { store: "main".into(), precision, name: "index".into() })
}

pub(crate) fn indexed(
    storage: SharedStore,
    index: Arc<dyn BlobIndex>,
    clock: Arc<dyn Clock>,
    inline: u64,
) -> SharedStore {
    let options = SqlIndexOptions { max_inline_blob_size: inline, window: 10_000, observer: unobserved() };
    Arc::new(SqlIndex::new(storage, index, clock, options))
}

pub(crate) async fn sql_storage((pool, folder): (SqlPool, Option<tempfile::TempDir>)) -> Subject {
    Subject::new(Arc::new(Sql::new(pool, Hands::new(), "sql".into()))).keeping(folder)
}

pub(crate) async fn subject((pool, folder): (SqlPool, Option<tempfile::TempDir>), inline: u64) -> Subject {
    let index = index(pool, Duration::ZERO);
    Subject::new(verify(indexed(lru(ROOM), index, Hands::new(), inline))).keeping(folder).verifying()
}

pub(crate) async fn redis_subject() -> Subject {
    let index = Arc::new(RedisIndex::new(redis_server::database().await, "prefix"));
    Subject::new(verify(indexed(lru(ROOM), index, Hands::new(), 0))).verifying()
}
