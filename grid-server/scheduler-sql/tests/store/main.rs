//! What every [`QueueStore`] does, shown on SQLite, on PostgreSQL and on the store of the simulation.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod bots;
mod history;
mod jobs;
mod metadata;
mod queue;
mod quotas;

use std::sync::Arc;

use bytes::Bytes;
use grid_core::{Digest, DigestFunction, Timestamp};
use grid_scheduler::ids::{JobId, OperationId, ReplicaId, SessionId};
use grid_scheduler::job::{Job, JobSpec, JobState};
use grid_scheduler::operation::{ClientIdentity, Operation, RequestMetadata};
use grid_scheduler::properties::{Properties, Requirement, RequirementId};
use grid_scheduler::session::{BotStatus, Session};
use grid_scheduler::simulation::{Faults, SimStore};
use grid_scheduler::store::{QueueStore, QueueTx};
use grid_scheduler_sql::{Database, PostgresQueue, SqliteQueue, testing};
use uuid::Uuid;

/// Two handles on one queue, and what must live as long.
pub(crate) struct Stores {
    pub(crate) store: Arc<dyn QueueStore>,
    pub(crate) other: Arc<dyn QueueStore>,
    _folder: Option<tempfile::TempDir>,
}

pub(crate) async fn sqlite() -> Stores {
    let (Database::Sqlite(pool), folder) = testing::sqlite().await else { unreachable!() };
    let queue = SqliteQueue::new(pool);
    Stores { other: Arc::new(queue.sibling(1)), store: Arc::new(queue), _folder: Some(folder) }
}

pub(crate) async fn postgres() -> Stores {
    let Database::Postgres(pool) = testing::postgres().await else { unreachable!() };
    let other = Arc::new(PostgresQueue::new(pool.clone()));
    Stores { store: Arc::new(PostgresQueue::new(pool)), other, _folder: None }
}

pub(crate) async fn simulation() -> Stores {
    let queue = SimStore::new(1, Faults::NONE, Box::new(|_| {}));
    Stores { other: Arc::new(queue.sibling(1)), store: Arc::new(queue), _folder: None }
}

/// Runs tests on every store.
macro_rules! on_all {
    ($($name:ident),* $(,)?) => {
        mod sqlite { $(#[tokio::test] async fn $name() { super::$name(crate::sqlite().await).await; })* }
        mod postgres { $(#[tokio::test] async fn $name() { super::$name(crate::postgres().await).await; })* }
        mod simulation { $(#[tokio::test] async fn $name() { super::$name(crate::simulation().await).await; })* }
    };
}
pub(crate) use on_all;

pub(crate) fn requirement(os: &str) -> Requirement {
    let must = Properties::from([("OSFamily".to_owned(), [os.to_owned()].into())]);
    Requirement { label: os.to_owned(), must, ..Requirement::default() }
}

/// A waiting job; its number is its identifier and its action.
pub(crate) fn job(number: u128, requirement: RequirementId) -> Job {
    let action = Bytes::from(number.to_string());
    Job {
        id: JobId(Uuid::from_u128(number)),
        spec: JobSpec {
            instance: "main".to_owned(),
            pool: "main".to_owned(),
            action_digest: Digest::of(DigestFunction::Sha256, &action),
            cacheable: true,
            requirement,
            label: "linux".to_owned(),
            flow: String::new(),
            timeout_micros: None,
            command: "cc\0x".to_owned(),
            platform: vec![("OSFamily".to_owned(), "linux".to_owned())],
            mnemonic: String::new(),
            tool: String::new(),
            subject: String::new(),
            locality: String::new(),
        },
        action,
        state: JobState::queued(Timestamp(1_000), 0, Timestamp(5_000)),
        ended: Vec::new(),
        closed: Vec::new(),
    }
}

pub(crate) fn linux(number: u128) -> Job {
    job(number, requirement("linux").id())
}

pub(crate) fn operation(number: u128, job: &Job) -> Operation {
    Operation {
        id: OperationId(Uuid::from_u128(number)),
        job: job.id,
        instance: "main".to_owned(),
        cancelled: false,
        created_at: Timestamp(1_000),
        client: ClientIdentity { subject: "ci".to_owned(), ..ClientIdentity::default() },
        metadata: RequestMetadata { invocation_id: "i".to_owned(), ..RequestMetadata::default() },
    }
}

pub(crate) fn session(number: u128, bot_id: &str, expires_at: i64) -> Session {
    Session {
        id: SessionId(Uuid::from_u128(number)),
        bot_id: bot_id.to_owned(),
        instance: "main".to_owned(),
        pool: "main".to_owned(),
        properties: Properties::new(),
        capacity: 2,
        priority: 0,
        status: BotStatus::Ok,
        worker_pool: "builds/linux".to_owned(),
        node: format!("node-{number}"),
        version_of_bot: String::new(),
        drain_until: None,
        drain_told: false,
        last_seen: Timestamp(7),
        idle_since: None,
        calls: 0,
        faults: 0,
        owner: ReplicaId(Uuid::from_u128(9)),
        version: 1,
        expires_at: Timestamp(expires_at),
    }
}

/// Far in the future of every clock.
pub(crate) const LATE: i64 = 1 << 60;

pub(crate) async fn begin(stores: &Stores) -> Box<dyn QueueTx> {
    stores.store.begin().await.unwrap()
}

/// Inserts jobs that nothing stands in the way of.
pub(crate) async fn insert(stores: &Stores, jobs: &[Job]) {
    let mut tx = begin(stores).await;
    assert_eq!(tx.insert_jobs(jobs).await.unwrap(), []);
    tx.commit().await.unwrap();
}

pub(crate) fn ids<'a>(jobs: impl IntoIterator<Item = &'a Job>) -> Vec<u128> {
    jobs.into_iter().map(|job| job.id.0.as_u128()).collect()
}
