//! Who is served when there is more work than slots: with turns no invocation waits for another's whole queue, without
//! them the order is priority, then age, and nothing else. The real scheduler over the simulated store and clock.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use grid_core::{Digest, DigestFunction};
use grid_scheduler::engine::BotReport;
use grid_scheduler::history::Usage;
use grid_scheduler::ids::JobId;
use grid_scheduler::job::Job;
use grid_scheduler::operation::{ClientIdentity, RequestMetadata};
use grid_scheduler::properties::Properties;
use grid_scheduler::service::{ExecuteRequest, Poll, Standing};
use grid_scheduler::session::{BotStatus, News, ReportedLease};
use grid_scheduler::simulation::{Faults, SimIds, SimStore};
use grid_scheduler::{Scheduler, SchedulerOptions, Watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

const SLOTS: usize = 8;
/// How long each action takes.
const ACTION: Duration = Duration::from_secs(10);

struct Grid {
    store: SimStore,
    scheduler: Arc<Scheduler>,
    bots: JoinSet<()>,
    /// So that each action is another one.
    asked: u32,
}

impl Grid {
    fn new(fair: bool) -> Self {
        let store = SimStore::new(1, Faults::NONE, Box::new(|_| {}));
        let options = SchedulerOptions { fair, ..SchedulerOptions::default() };
        let scheduler = Scheduler::start(options, Arc::new(store.sibling(0)), Arc::new(SimIds::new(2)));
        Self { store, scheduler, bots: JoinSet::new(), asked: 0 }
    }

    /// An invocation asks for so many actions of one priority, one after the other.
    async fn ask(&mut self, invocation: &str, priority: i32, actions: u32) -> Vec<Watch> {
        let mut watches = Vec::new();
        for _ in 0..actions {
            self.asked += 1;
            let action = Bytes::copy_from_slice(&self.asked.to_le_bytes());
            let request = ExecuteRequest {
                instance: String::new(),
                action_digest: Digest::of(DigestFunction::Sha256, &action),
                action,
                command: String::new(),
                platform: Vec::new(),
                requirement: self.scheduler.requirement("", &[]).await.unwrap(),
                priority,
                cacheable: true,
                timeout: None,
                locality: String::new(),
                client: ClientIdentity::default(),
                metadata: RequestMetadata { invocation_id: invocation.to_owned(), ..Default::default() },
                cached: None,
            };
            watches.push(self.scheduler.execute(request).await.unwrap());
            sleep(Duration::from_micros(1)).await;
        }
        watches
    }

    fn work(&mut self) {
        for number in 0..SLOTS {
            self.bots.spawn(bot(Arc::clone(&self.scheduler), number));
        }
    }

    /// The jobs that were given to bots, in that order.
    async fn begun(&self) -> Vec<Job> {
        let tables = self.store.tables().await;
        let mut begun: Vec<Job> = tables.jobs.values().map(|job| job.as_ref().clone()).collect();
        begun.retain(|job| job.state.started_at.is_some());
        begun.sort_by_key(|job| (job.state.started_at, job.state.priority, job.state.queued_at));
        begun
    }
}

async fn bot(scheduler: Arc<Scheduler>, number: usize) {
    let standing = Standing {
        instance: String::new(),
        bot_id: format!("bot-{number}"),
        properties: Properties::new(),
        capacity: 1,
        priority: 0,
        status: BotStatus::Ok,
        worker_pool: String::new(),
        node: String::new(),
        version: String::new(),
    };
    let session = scheduler.open_session(standing).await.unwrap();
    let mut done: BTreeMap<(JobId, u32), News> = BTreeMap::new();
    loop {
        let leases = std::mem::take(&mut done).into_iter();
        let report = BotReport {
            session: session.id,
            bot_id: session.bot_id.clone(),
            properties: None,
            capacity: None,
            status: BotStatus::Ok,
            leases: leases
                .map(|((job, attempt), news)| ReportedLease { job, attempt, news, usage: Usage::default() })
                .collect(),
            lifetime: scheduler.lifetime(),
        };
        let poll = Poll { wait: Duration::from_secs(20), when_full: true };
        let synced = scheduler.report(report, poll).await.unwrap();
        if !synced.held.is_empty() {
            sleep(ACTION).await;
        }
        let finished = |job: &Job| ((job.id, job.state.attempts), News::Finished(Bytes::from_static(b"1")));
        done.extend(synced.held.iter().map(finished));
    }
}

/// Two invocations of a thousand actions fill the grid; the third, with ten, has them all begun within three times an
/// action after the first slot came free.
#[tokio::test(start_paused = true)]
async fn a_small_invocation_waits_for_no_other_s_whole_queue() {
    let mut grid = Grid::new(true);
    let mut watches = grid.ask("one", 0, 1_000).await;
    watches.extend(grid.ask("two", 0, 1_000).await);
    grid.work();
    sleep(ACTION * 3 + ACTION / 2).await;
    let asked = grid.store.now();
    watches.extend(grid.ask("three", 0, 10).await);
    sleep(ACTION * 4).await;
    let begun = grid.begun().await;
    let third: Vec<Duration> = begun
        .iter()
        .filter(|job| job.spec.flow == "three")
        .map(|job| job.state.started_at.unwrap().since(asked))
        .collect();
    assert_eq!(third.len(), 10, "{third:?}");
    assert!(third[0] <= ACTION, "{third:?}");
    assert!(third.iter().all(|wait| *wait <= ACTION / 2 + ACTION * 3), "{third:?}");
    let share = |flow: &str| begun.iter().filter(|job| job.spec.flow == flow).count();
    assert!(share("one").abs_diff(share("two")) <= SLOTS, "{} and {}", share("one"), share("two"));
}

/// Without turns: priority, then age, exactly.
#[tokio::test(start_paused = true)]
async fn without_turns_the_order_is_priority_then_age() {
    let mut grid = Grid::new(false);
    let mut watches = Vec::new();
    for (invocation, priority, actions) in [("one", 0, 20), ("two", 5, 10), ("three", 0, 10), ("four", -1, 6)]
    {
        watches.extend(grid.ask(invocation, priority, actions).await);
    }
    grid.work();
    sleep(ACTION * 7).await;
    let begun = grid.begun().await;
    assert_eq!(begun.len(), 46);
    let keys: Vec<_> = begun.iter().map(|job| (job.state.priority, job.state.queued_at)).collect();
    assert!(keys.is_sorted(), "{keys:?}");
}
