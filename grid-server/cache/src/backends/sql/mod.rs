//! `!sql-action-cache`: results in a database: PostgreSQL, shared by any number of servers, or an SQLite file of one.
//!
//! Which of two results is the first is the database's decision, so that write-once holds for all replicas. A database
//! that is away is waited for. Results leave when they were unused for too long, and the least recently used when there
//! are too many; that is looked after by those who write. It refuses to know whether what a result names is there: that
//! is `completeness`, which is put around it.

mod postgres;
mod sqlite;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use grid_cas::StoreError;
use grid_cas::sql::SqlPool;
use grid_cas::wait::until_available;
use grid_core::{Clock, Digest, Timestamp};
use grid_proto::reapi::ActionResult;
use prost::Message as _;

use self::postgres::PostgresRows;
use self::sqlite::SqliteRows;
use crate::{ActionCache, CacheError};

/// How old the note of a result's last use may become before it is written anew: reads are many more than writes.
const PRECISION: Duration = Duration::from_secs(3600);
/// After how many new results the bounds are looked at again.
const LOOK_AFTER: u64 = 100;
/// How many results one statement removes.
const BATCH: u64 = 1_000;

/// How an [`Sql`] cache is made.
#[derive(Clone, Debug)]
pub struct SqlOptions {
    /// Tells its rows from those of other caches in the same database (`cache-key-salt`).
    pub salt: String,
    /// How many results are kept (`max-entries`).
    pub max_entries: u64,
    /// How long a result is kept that nobody asks for (`expire-unused-after`), to within an hour.
    pub expire_unused_after: Option<Duration>,
    /// Its place in the configuration, for errors.
    pub name: Arc<str>,
}

/// A row that was asked for.
#[derive(Debug)]
struct Found {
    result: Bytes,
    accessed: Timestamp,
}

/// When a row counts as gone, and as used.
#[derive(Clone, Copy, Debug)]
struct Times {
    now: Timestamp,
    /// Rows that were last used before this have expired.
    expired: Timestamp,
}

/// The statements. Each call is one transaction.
#[async_trait]
trait Rows: std::fmt::Debug + Send + Sync {
    async fn get(&self, key: &[u8], times: Times) -> Result<Option<Found>, StoreError>;
    async fn touch(&self, key: &[u8], times: Times) -> Result<(), StoreError>;
    /// Whether the row was written; with `keep` one that is there and has not expired stays.
    async fn put(&self, key: &[u8], result: &[u8], keep: bool, times: Times) -> Result<bool, StoreError>;
    async fn delete(&self, key: &[u8]) -> Result<(), StoreError>;
    /// Removes so many of those last used before `before`; tells how many it found.
    async fn expire(&self, before: Timestamp, limit: u64) -> Result<u64, StoreError>;
    /// Removes so many of the least recently used, of those that there are above `entries`; tells how many it found. Of
    /// several servers at once one does it.
    async fn trim(&self, entries: u64, limit: u64) -> Result<u64, StoreError>;
    async fn probe(&self) -> Result<(), StoreError>;
}

/// Results in a database.
#[derive(Clone, Debug)]
pub struct Sql {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    rows: Box<dyn Rows>,
    clock: Arc<dyn Clock>,
    options: SqlOptions,
    /// New results since the bounds were looked at.
    new: AtomicU64,
    /// One looks at a time.
    looking: tokio::sync::Mutex<()>,
}

/// A result's key: the function's number, the hash and the size.
fn key(action: &Digest) -> Vec<u8> {
    let mut key = Vec::with_capacity(73);
    key.push(action.function() as u8);
    key.extend_from_slice(action.hash_bytes());
    key.extend_from_slice(&action.size().to_be_bytes());
    key
}

impl Sql {
    /// The cache in this database.
    #[must_use]
    pub fn new(pool: SqlPool, clock: Arc<dyn Clock>, options: SqlOptions) -> Self {
        let (name, salt) = (Arc::clone(&options.name), options.salt.clone());
        let rows: Box<dyn Rows> = match pool {
            SqlPool::Postgres(pool) => Box::new(PostgresRows { pool, name, salt }),
            SqlPool::Sqlite(pool) => Box::new(SqliteRows { pool, name, salt }),
        };
        let new = AtomicU64::new(0);
        Self { inner: Arc::new(Inner { rows, clock, options, new, looking: tokio::sync::Mutex::default() }) }
    }

    async fn put(&self, action: &Digest, result: &ActionResult, keep: bool) -> Result<bool, CacheError> {
        let (key, result) = (key(action), result.encode_to_vec());
        let inner = &self.inner;
        let mut sent = 0;
        let put = until_available(|| {
            sent += 1;
            inner.rows.put(&key, &result, keep, inner.times())
        });
        let mut put = put.await?;
        if !put && sent > 1 {
            // The answer to an earlier statement may have been lost: then it is ours that is there.
            let there = until_available(|| inner.rows.get(&key, inner.times())).await?;
            put = there.is_some_and(|found| found.result == result);
        }
        if put && inner.new.fetch_add(1, Ordering::Relaxed) >= LOOK_AFTER {
            inner.look_after();
        }
        Ok(put)
    }

    /// Removes what has expired, and what is too much: done at times by those who write, and to be called at start for what
    /// earlier processes left.
    ///
    /// # Errors
    /// The database's trouble.
    pub async fn keep_bounds(&self) -> Result<(), CacheError> {
        Ok(self.inner.keep_bounds().await?)
    }
}

impl Inner {
    fn times(&self) -> Times {
        let now = self.clock.now();
        let expired = self.options.expire_unused_after.map(|after| now.before(after + PRECISION));
        Times { now, expired: expired.unwrap_or(Timestamp(i64::MIN)) }
    }

    /// Looks after the bounds beside the calls.
    fn look_after(self: &Arc<Self>) {
        self.new.store(0, Ordering::Relaxed);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = this.keep_bounds().await {
                tracing::warn!(%error, "old results could not be removed");
            }
        });
    }

    async fn keep_bounds(&self) -> Result<(), StoreError> {
        let _looking = self.looking.lock().await;
        let Times { expired, .. } = self.times();
        while expired.0 > i64::MIN && self.rows.expire(expired, BATCH).await? == BATCH {}
        while self.rows.trim(self.options.max_entries, BATCH).await? == BATCH {}
        Ok(())
    }
}

#[async_trait]
impl ActionCache for Sql {
    async fn get(&self, action: &Digest) -> Result<Option<ActionResult>, CacheError> {
        let (inner, key) = (&self.inner, key(action));
        let times = inner.times();
        let Some(found) = until_available(|| inner.rows.get(&key, times)).await? else { return Ok(None) };
        if times.now.since(found.accessed) >= PRECISION {
            until_available(|| inner.rows.touch(&key, times)).await?;
        }
        ActionResult::decode(found.result).map(Some).map_err(|_| CacheError::Corrupt(*action))
    }

    async fn update(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        self.put(action, result, false).await.map(drop)
    }

    async fn insert(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        if self.put(action, result, true).await? { Ok(()) } else { Err(CacheError::AlreadyWritten(*action)) }
    }

    async fn delete(&self, action: &Digest) -> Result<(), CacheError> {
        let key = key(action);
        Ok(until_available(|| self.inner.rows.delete(&key)).await?)
    }

    fn allows_updates(&self) -> bool {
        true
    }

    async fn probe(&self) -> Result<(), CacheError> {
        Ok(self.inner.rows.probe().await?)
    }
}
