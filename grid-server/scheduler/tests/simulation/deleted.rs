//! Operations that are deleted: their jobs go on, and who watched them on any replica sees the end.

use std::time::Duration;

use bytes::Bytes;
use grid_scheduler::SchedulerError;
use grid_scheduler::engine::BotReport;
use grid_scheduler::history::Usage;
use grid_scheduler::job::Stage;
use grid_scheduler::properties::Properties;
use grid_scheduler::service::{Poll, Standing};
use grid_scheduler::session::{BotStatus, News, ReportedLease};
use grid_scheduler::simulation::{Faults, SimStore};
use tokio::time::{sleep, timeout};

use crate::clients::request;
use crate::{POOL, SESSION, options, replica};

/// Longer than it takes a replica to look at everything that is watched there.
const LOOKED: Duration = Duration::from_mins(2);

async fn forgotten() {
    let store = SimStore::new(1, Faults::NONE, Box::new(|_| {}));
    let (one, other) = (replica(&store, &options(1), 0), replica(&store, &options(1), 1));
    let mut here = one.execute(request(&one, Bytes::from_static(b"a"), "small").await).await.unwrap();
    let id = here.operation.id;
    let mut there = other.watch(id).await.unwrap();
    other.delete(id).await.unwrap();
    assert!(matches!(one.operation(id).await, Err(SchedulerError::OperationNotFound(_))));
    sleep(LOOKED).await;
    assert!(!here.view().is_final() && !there.view().is_final(), "it waits as before");

    let standing = Standing {
        instance: String::new(),
        bot_id: "bot".to_owned(),
        properties: Properties::from([("size".to_owned(), ["small".to_owned()].into())]),
        capacity: 1,
        priority: 0,
        status: BotStatus::Ok,
        worker_pool: POOL.to_owned(),
        node: String::new(),
        version: String::new(),
    };
    let session = one.open_session(standing).await.unwrap();
    let report = |leases| BotReport {
        session: session.id,
        bot_id: session.bot_id.clone(),
        properties: None,
        capacity: None,
        status: BotStatus::Ok,
        leases,
        lifetime: SESSION,
    };
    let poll = Poll { wait: Duration::from_secs(20), when_full: false };
    let held = one.report(report(Vec::new()), poll).await.unwrap().held.pop().expect("it is run");
    let (job, attempt) = (held.id, held.state.attempts);
    let news = News::Finished(Bytes::from_static(b"done"));
    let ended = ReportedLease { job, attempt, news, usage: Usage::default() };
    one.report(report(vec![ended]), Poll { wait: Duration::ZERO, ..poll }).await.unwrap();
    for watch in [&mut here, &mut there] {
        let view = timeout(LOOKED, async {
            while !watch.view().is_final() {
                watch.changed().await;
            }
            watch.view()
        });
        let view = view.await.expect("who watches is told of the end");
        assert!(view.job.state.stage == Stage::Completed && !view.cancelled, "{view:?}");
    }
}

#[test]
fn the_job_of_a_deleted_operation_goes_on() {
    crate::on_a_simulated_clock(forgotten());
}
