//! The whole scheduler on real databases: whose turn it is, what quotas several replicas keep together, and what is found
//! where news is lost.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod faults;
mod news;
mod outage;
mod queue_timeouts;
mod quotas;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use grid_scheduler::history::Usage;
use grid_scheduler::ids::TimeOrderedIds;
use grid_scheduler::job::Job;
use grid_scheduler::service::Poll;
use grid_scheduler::session::{News, ReportedLease, Session};
use grid_scheduler::simulation::load::{self, Asker};
use grid_scheduler::store::QueueStore;
use grid_scheduler::{Scheduler, SchedulerOptions, Watch};
use grid_scheduler_sql::{Database, SqliteQueue, testing};
use sqlx::PgPool;
use tempfile::TempDir;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pool of a database of the test's own.
async fn postgres() -> PgPool {
    let Database::Postgres(pool) = testing::postgres().await else { unreachable!() };
    pool
}

async fn sqlite() -> (SqliteQueue, TempDir) {
    let (Database::Sqlite(pool), folder) = testing::sqlite().await else { unreachable!() };
    (SqliteQueue::new(pool), folder)
}

/// A replica.
fn replica(store: impl QueueStore + 'static, options: &SchedulerOptions) -> Arc<Scheduler> {
    Scheduler::start(options.clone(), Arc::new(store), Arc::new(TimeOrderedIds))
}

/// Asks for actions by their numbers, all at once.
async fn ask(scheduler: &Arc<Scheduler>, asker: Asker<'_>, numbers: impl Iterator<Item = u32>) -> Vec<Watch> {
    let one = |number: u32| async move {
        let action = Bytes::copy_from_slice(&number.to_le_bytes());
        let request = asker.request(scheduler, action).await.unwrap();
        scheduler.execute(request).await.unwrap()
    };
    join_all(numbers.map(one)).await
}

/// A bot on a replica.
struct Bot {
    scheduler: Arc<Scheduler>,
    session: Session,
}

impl Bot {
    async fn open(scheduler: &Arc<Scheduler>, name: &str, capacity: u32) -> Self {
        let session = scheduler.open_session(load::standing(name, "linux", capacity)).await.unwrap();
        Self { scheduler: Arc::clone(scheduler), session }
    }

    /// Says what became of leases, and gives what it holds then: at the latest when `wait` is over.
    async fn report(&self, leases: Vec<ReportedLease>, wait: Duration) -> Vec<Job> {
        let report = load::report(&self.session, self.scheduler.lifetime(), leases);
        let poll = Poll { wait, when_full: false };
        self.scheduler.report(report, poll).await.unwrap().held
    }
}

fn finished(job: &Job) -> ReportedLease {
    load::lease(job, News::Finished(Bytes::from_static(b"done")), Usage::default())
}

fn running(job: &Job) -> ReportedLease {
    load::lease(job, News::Running(None), Usage::default())
}
