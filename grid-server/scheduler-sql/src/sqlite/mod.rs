//! [`SqliteQueue`]: the queue in an SQLite file, for a grid of one process.
//!
//! One writer at a time, so transactions stand in an in-process queue rather than poll SQLite's lock; the
//! scheduler's batches make each of them serve many calls. News goes over a channel of the process.

mod fleet;
mod history;
mod jobs;
mod metadata;
mod operations;
mod quotas;
mod read;
mod sessions;
mod turns;
mod tx;
mod waits;

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use grid_core::{Clock, SystemClock, Timestamp};
use grid_scheduler::filter::ListQuery;
use grid_scheduler::fleet::{FleetRows, Wait, WaitQuery};
use grid_scheduler::history::Run;
use grid_scheduler::ids::{JobId, OperationId};
use grid_scheduler::job::Job;
use grid_scheduler::metadata::{Summary, SummaryQuery, Values, ValuesQuery};
use grid_scheduler::operation::Operation;
use grid_scheduler::properties::{Requirement, RequirementId};
use grid_scheduler::quota::Share;
use grid_scheduler::store::{Depth, Event, JobPage, QueueStore, QueueTx, Recent, RunQuery, StoreResult};
use sqlx::SqlitePool;
use sqlx::sqlite::SqlitePoolOptions;
use tokio::sync::{Mutex, broadcast};
use tokio_stream::wrappers::BroadcastStream;

use crate::error::map;

/// Events that a slow listener can be behind before it is told to look at everything.
const BACKLOG: usize = 4_096;

/// How much of the file the connection that writes remembers at most, in KiB.
const CACHE_KIB: u32 = 32 << 10;
/// After so many pages the log of changes is put into the file: a page that many transactions change is put there once.
const CHECKPOINT_PAGES: u32 = 4_000;

/// The queue in an SQLite file.
#[derive(Clone, Debug)]
pub struct SqliteQueue {
    pool: SqlitePool,
    /// The one connection that writes: what it has read of the file stays in its memory from one transaction to the
    /// next, for as long as nobody else has written.
    writing: SqlitePool,
    writer: Arc<Mutex<()>>,
    news: broadcast::Sender<(u64, Event)>,
    clock: Arc<dyn Clock>,
    /// Which handle this is: a handle hears the news of the others.
    handle: u64,
}

impl SqliteQueue {
    /// The queue in this database, whose migrations have been run.
    #[must_use]
    pub fn new(pool: SqlitePool) -> Self {
        Self::with_clock(pool, Arc::new(SystemClock))
    }

    /// As [`SqliteQueue::new`], with a clock of the caller's.
    #[must_use]
    pub fn with_clock(pool: SqlitePool, clock: Arc<dyn Clock>) -> Self {
        let writing = writing(&pool);
        Self {
            pool,
            writing,
            writer: Arc::default(),
            news: broadcast::Sender::new(BACKLOG),
            clock,
            handle: 0,
        }
    }

    /// Another handle on the same queue, for another scheduler of this process.
    #[must_use]
    pub fn sibling(&self, handle: u64) -> Self {
        Self { handle, ..self.clone() }
    }
}

/// A pool of one connection to the same file.
fn writing(pool: &SqlitePool) -> SqlitePool {
    let connect = pool
        .connect_options()
        .as_ref()
        .clone()
        .pragma("cache_size", format!("-{CACHE_KIB}"))
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string());
    let lasting = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
    lasting.acquire_timeout(pool.options().get_acquire_timeout()).connect_lazy_with(connect)
}

#[async_trait]
impl QueueStore for SqliteQueue {
    async fn begin(&self) -> StoreResult<Box<dyn QueueTx>> {
        let turn = Arc::clone(&self.writer).lock_owned().await;
        let tx = self.writing.begin_with("BEGIN IMMEDIATE").await.map_err(map)?;
        Ok(Box::new(tx::SqliteTx::new(tx, turn, self.clock.now(), self.news.clone(), self.handle)))
    }

    async fn jobs(&self, ids: &[JobId]) -> StoreResult<Vec<Job>> {
        read::jobs(&self.pool, ids).await
    }

    async fn operations(&self, ids: &[OperationId]) -> StoreResult<Vec<(Operation, Job)>> {
        read::operations(&self.pool, ids).await
    }

    async fn list(&self, query: &ListQuery) -> StoreResult<Vec<(Operation, Job)>> {
        read::list(&self.pool, query).await
    }

    async fn metadata_values(&self, query: &ValuesQuery) -> StoreResult<Values> {
        metadata::values(&self.pool, query).await
    }

    async fn metadata_summary(&self, query: &SummaryQuery) -> StoreResult<Summary> {
        metadata::summary(&self.pool, query).await
    }

    async fn queued(&self) -> StoreResult<Vec<RequirementId>> {
        read::queued(&self.pool).await
    }

    async fn depths(&self) -> StoreResult<Vec<Depth>> {
        read::depths(&self.pool).await
    }

    async fn labelled(&self, label: &str, limit: u64) -> StoreResult<u64> {
        read::labelled(&self.pool, label, limit).await
    }

    async fn requirements(&self, ids: &[RequirementId]) -> StoreResult<Vec<Requirement>> {
        read::requirements(&self.pool, ids).await
    }

    async fn fleet(&self) -> StoreResult<FleetRows> {
        read::fleet(&self.pool, self.clock.now()).await
    }

    async fn recent(&self, since: Timestamp, limit: u32) -> StoreResult<Vec<Recent>> {
        read::recent(&self.pool, since, limit).await
    }

    async fn page(&self, page: &JobPage) -> StoreResult<Vec<(Job, Vec<Operation>)>> {
        read::page(&self.pool, page).await
    }

    async fn runs(&self, query: &RunQuery) -> StoreResult<Vec<Run>> {
        history::runs(&self.pool, query).await
    }

    async fn waits(&self, query: &WaitQuery) -> StoreResult<Vec<Wait>> {
        waits::waits(&self.pool, query).await
    }

    async fn ahead(&self, job: &Job, requirements: &[RequirementId]) -> StoreResult<u64> {
        read::ahead(&self.pool, job, requirements).await
    }

    async fn shares(&self, evicted_since: Timestamp) -> StoreResult<Vec<Share>> {
        quotas::shares(&self.pool, evicted_since).await
    }

    fn events(&self) -> BoxStream<'static, Event> {
        let own = self.handle;
        BroadcastStream::new(self.news.subscribe())
            .filter_map(move |news| async move {
                match news {
                    Ok((handle, _)) if handle == own => None,
                    Ok((_, event)) => Some(event),
                    Err(_) => Some(Event::Resync),
                }
            })
            .boxed()
    }

    async fn probe(&self) -> StoreResult<()> {
        sqlx::query("SELECT 1").execute(&self.pool).await.map(|_| ()).map_err(map)
    }
}
