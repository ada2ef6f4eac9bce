//! [`PostgresQueue`]: the queue in PostgreSQL, for any number of replicas.
//!
//! Each method of a transaction is one statement over arrays, so that a batch costs the round trips of a single
//! call. Waiting rows are claimed with `FOR UPDATE SKIP LOCKED`; news goes by LISTEN and NOTIFY, and nothing but
//! waiting time depends on it.

mod fleet;
mod history;
mod listen;
mod metadata;
mod news;
mod operations;
mod overdue;
mod queue;
mod quotas;
mod read;
mod sessions;
mod turns;
mod tx;
mod waits;

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use grid_core::Timestamp;
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
use sqlx::PgPool;
use uuid::Uuid;

use crate::error::map;

/// The queue in PostgreSQL.
#[derive(Clone, Debug)]
pub struct PostgresQueue {
    pool: PgPool,
    /// Where lists are read.
    reader: PgPool,
    /// Where news is heard.
    notifier: PgPool,
    /// Marks this process's news, which it does not need to hear.
    origin: Arc<str>,
}

impl PostgresQueue {
    /// The queue in this database, whose migrations have been run.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        let origin = Uuid::new_v4().simple().to_string().into();
        Self { reader: pool.clone(), notifier: pool.clone(), pool, origin }
    }

    /// The same, with lists read from a copy that may be behind (`sql-ro`).
    #[must_use]
    pub fn with_reader(self, reader: PgPool) -> Self {
        Self { reader, ..self }
    }

    /// The same, with news heard over another connection, as a pooler between needs it (`sql-notifier`).
    #[must_use]
    pub fn with_notifier(self, notifier: PgPool) -> Self {
        Self { notifier, ..self }
    }
}

#[async_trait]
impl QueueStore for PostgresQueue {
    async fn begin(&self) -> StoreResult<Box<dyn QueueTx>> {
        Ok(Box::new(tx::PostgresTx::begin(&self.pool, Arc::clone(&self.origin)).await?))
    }

    async fn jobs(&self, ids: &[JobId]) -> StoreResult<Vec<Job>> {
        read::jobs(&self.pool, ids).await
    }

    async fn operations(&self, ids: &[OperationId]) -> StoreResult<Vec<(Operation, Job)>> {
        read::operations(&self.pool, ids).await
    }

    async fn list(&self, query: &ListQuery) -> StoreResult<Vec<(Operation, Job)>> {
        read::list(&self.reader, query).await
    }

    async fn metadata_values(&self, query: &ValuesQuery) -> StoreResult<Values> {
        metadata::values(&self.reader, query).await
    }

    async fn metadata_summary(&self, query: &SummaryQuery) -> StoreResult<Summary> {
        metadata::summary(&self.reader, query).await
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
        read::fleet(&self.pool).await
    }

    async fn recent(&self, since: Timestamp, limit: u32) -> StoreResult<Vec<Recent>> {
        read::recent(&self.reader, since, limit).await
    }

    async fn page(&self, page: &JobPage) -> StoreResult<Vec<(Job, Vec<Operation>)>> {
        read::page(&self.reader, page).await
    }

    async fn runs(&self, query: &RunQuery) -> StoreResult<Vec<Run>> {
        history::runs(&self.reader, query).await
    }

    async fn waits(&self, query: &WaitQuery) -> StoreResult<Vec<Wait>> {
        waits::waits(&self.reader, query).await
    }

    async fn ahead(&self, job: &Job, requirements: &[RequirementId]) -> StoreResult<u64> {
        read::ahead(&self.pool, job, requirements).await
    }

    async fn shares(&self, evicted_since: Timestamp) -> StoreResult<Vec<Share>> {
        quotas::shares(&self.pool, evicted_since).await
    }

    fn events(&self) -> BoxStream<'static, Event> {
        listen::events(self.notifier.clone(), Arc::clone(&self.origin))
    }

    async fn probe(&self) -> StoreResult<()> {
        sqlx::query("SELECT 1").execute(&self.pool).await.map(|_| ()).map_err(map)
    }
}
