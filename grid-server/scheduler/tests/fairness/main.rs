//! Who is served when there is more work than slots: the real scheduler over the simulated store and clock.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod observed;
mod quotas;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use grid_scheduler::history::Usage;
use grid_scheduler::job::Job;
use grid_scheduler::service::Poll;
use grid_scheduler::session::{News, Session};
use grid_scheduler::simulation::load::{self, Asker};
use grid_scheduler::simulation::{Faults, SimIds, SimStore};
use grid_scheduler::{Scheduler, SchedulerOptions, Watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How long each action takes.
pub(crate) const ACTION: Duration = Duration::from_secs(10);

pub(crate) struct Grid {
    pub(crate) store: SimStore,
    pub(crate) scheduler: Arc<Scheduler>,
    bots: JoinSet<()>,
    /// So that each action is another one.
    asked: u32,
}

impl Grid {
    pub(crate) fn new(options: SchedulerOptions) -> Self {
        let store = SimStore::new(1, Faults::NONE, Box::new(|_| {}));
        let scheduler = Scheduler::start(options, Arc::new(store.sibling(0)), Arc::new(SimIds::new(2)));
        Self { store, scheduler, bots: JoinSet::new(), asked: 0 }
    }

    /// An invocation asks for so many actions of one priority, one after the other.
    pub(crate) async fn ask(&mut self, invocation: &str, priority: i32, actions: u32) -> Vec<Watch> {
        self.ask_as("", invocation, priority, actions).await
    }

    /// As [`Grid::ask`], in an instance.
    pub(crate) async fn ask_as(
        &mut self,
        instance: &str,
        invocation: &str,
        priority: i32,
        actions: u32,
    ) -> Vec<Watch> {
        let asker = Asker { instance, priority, ..Asker::new(invocation) };
        let mut watches = Vec::new();
        for _ in 0..actions {
            self.asked += 1;
            let action = Bytes::copy_from_slice(&self.asked.to_le_bytes());
            let request = asker.request(&self.scheduler, action).await.unwrap();
            watches.push(self.scheduler.execute(request).await.unwrap());
            sleep(Duration::from_micros(1)).await;
        }
        watches
    }

    /// So many bots come to work.
    pub(crate) fn work(&mut self, bots: usize) {
        for number in 0..bots {
            self.bots.spawn(bot(Arc::clone(&self.scheduler), number, ACTION));
        }
    }

    /// So many bots come that never finish anything.
    pub(crate) fn hold(&mut self, bots: usize) {
        for number in 0..bots {
            self.bots.spawn(bot(Arc::clone(&self.scheduler), number, Duration::from_hours(1)));
        }
    }

    /// The jobs that were given to bots, in that order.
    pub(crate) async fn begun(&self) -> Vec<Job> {
        let tables = self.store.tables().await;
        let mut begun: Vec<Job> = tables.jobs.values().map(|job| job.as_ref().clone()).collect();
        begun.retain(|job| job.state.started_at.is_some());
        begun.sort_by_key(|job| (job.state.started_at, job.state.priority, job.state.queued_at));
        begun
    }
}

async fn bot(scheduler: Arc<Scheduler>, number: usize, action: Duration) {
    let standing = load::standing(&format!("bot-{number}"), "linux", 1);
    let session = scheduler.open_session(standing).await.unwrap();
    let mut done = Vec::new();
    loop {
        let report = load::report(&session, scheduler.lifetime(), std::mem::take(&mut done));
        let poll = Poll { wait: Duration::from_secs(20), when_full: true };
        let synced = scheduler.report(report, poll).await.unwrap();
        if !synced.held.is_empty() && hears_of_a_loss(&scheduler, &session, &synced.held, action).await {
            continue;
        }
        let finished =
            |job: &Job| load::lease(job, News::Finished(Bytes::from_static(b"1")), Usage::default());
        done.extend(synced.held.iter().map(finished));
    }
}

/// Runs the actions that a bot holds. Says whether they were taken away before their end.
async fn hears_of_a_loss(scheduler: &Scheduler, session: &Session, held: &[Job], action: Duration) -> bool {
    let running = held.iter().map(|job| load::lease(job, News::Running(None), Usage::default())).collect();
    let report = load::report(session, scheduler.lifetime(), running);
    let synced = scheduler.report(report, Poll { wait: action, when_full: true }).await.unwrap();
    synced.held.len() < held.len()
}
