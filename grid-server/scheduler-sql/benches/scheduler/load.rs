//! Clients and bots that do nothing but call the scheduler.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use grid_scheduler::Scheduler;
use grid_scheduler::history::Usage;
use grid_scheduler::service::{ExecuteRequest, Poll};
use grid_scheduler::session::{News, Session};
use grid_scheduler::simulation::load::{self as simulation, Asker};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const POLL: Duration = Duration::from_secs(30);

/// What a `ExecuteResponse` of a small action is in bytes.
const RESPONSE: &[u8] = &[7; 400];

/// A run from the first call to the last answer.
pub(crate) struct Load {
    pub(crate) clients: u32,
    pub(crate) bots: u32,
    pub(crate) capacity: u32,
    pub(crate) actions: u32,
}

impl Load {
    pub(crate) async fn run(&self, scheduler: &Arc<Scheduler>) {
        let next = Arc::new(AtomicU32::new(0));
        let mut bots = JoinSet::new();
        for number in 0..self.bots {
            let session = open(scheduler, &format!("bot-{number}"), "linux", self.capacity).await;
            bots.spawn(work(Arc::clone(scheduler), session, None));
        }
        let mut clients = JoinSet::new();
        for number in 0..self.clients {
            let (scheduler, next, last) = (Arc::clone(scheduler), Arc::clone(&next), self.actions);
            clients.spawn(async move {
                let invocation = (number % 20).to_string();
                while next.fetch_add(1, Ordering::Relaxed) < last {
                    execute(&scheduler, "linux", &invocation).await;
                }
            });
        }
        while let Some(ended) = clients.join_next().await {
            ended.expect("a client");
        }
        bots.shutdown().await;
    }
}

/// Distinct in every run on one database.
fn action() -> Bytes {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut action = vec![1; 150];
    action.extend(NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    action.into()
}

async fn request(scheduler: &Scheduler, system: &str, invocation: &str) -> ExecuteRequest {
    let asker = Asker { system, ..Asker::new(invocation) };
    asker.request(scheduler, action()).await.expect("a known platform")
}

async fn execute(scheduler: &Scheduler, system: &str, invocation: &str) {
    let request = request(scheduler, system, invocation).await;
    let mut watch = scheduler.execute(request).await.expect("accepted");
    while !watch.view().is_final() {
        watch.changed().await;
    }
}

async fn open(scheduler: &Scheduler, name: &str, system: &str, capacity: u32) -> Session {
    scheduler.open_session(simulation::standing(name, system, capacity)).await.expect("a session")
}

/// A bot that finishes at once whatever it is given, and tells `heard` of it.
async fn work(scheduler: Arc<Scheduler>, session: Session, heard: Option<mpsc::UnboundedSender<Instant>>) {
    let usage = Usage { cpu: Duration::from_millis(700), memory: 90 << 20 };
    let mut done = Vec::new();
    loop {
        let report = simulation::report(&session, scheduler.lifetime(), std::mem::take(&mut done));
        let poll = Poll { wait: POLL, when_full: true };
        let synced = scheduler.report(report, poll).await.expect("an answer");
        let now = Instant::now();
        for job in &synced.held {
            if let Some(heard) = &heard {
                // The receiver has all that it wants.
                let _ = heard.send(now);
            }
            done.push(simulation::lease(job, News::Finished(Bytes::from_static(RESPONSE)), usage));
        }
    }
}

/// How long it took a waiting bot to hear of each of so many jobs, one after the other.
pub(crate) async fn pickup(client: &Arc<Scheduler>, bots: &Arc<Scheduler>, samples: u32) -> Vec<Duration> {
    let (heard, mut hears) = mpsc::unbounded_channel();
    let mut working = JoinSet::new();
    for number in 0..4 {
        let session = open(bots, &format!("pickup-{number}"), "linux", 1).await;
        working.spawn(work(Arc::clone(bots), session, Some(heard.clone())));
    }
    execute(client, "linux", "warm").await;
    hears.recv().await;
    let mut times = Vec::new();
    for _ in 0..samples {
        // The bots are back at their posts.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let request = request(client, "linux", "pickup").await;
        let began = Instant::now();
        let mut watch = client.execute(request).await.expect("accepted");
        times.push(hears.recv().await.expect("a bot") - began);
        while !watch.view().is_final() {
            watch.changed().await;
        }
    }
    working.shutdown().await;
    times
}

/// Bots that wait for work that never comes.
pub(crate) async fn idle_bots(scheduler: &Arc<Scheduler>, count: u32) -> JoinSet<()> {
    let mut bots = JoinSet::new();
    for number in 0..count {
        let session = open(scheduler, &format!("idle-{number}"), "none", 1).await;
        bots.spawn(work(Arc::clone(scheduler), session, None));
    }
    bots
}

/// Jobs that no bot of a load can run.
pub(crate) async fn queue_up(scheduler: &Arc<Scheduler>, count: u32) {
    let mut clients = JoinSet::new();
    for client in 0..100 {
        let scheduler = Arc::clone(scheduler);
        clients.spawn(async move {
            for _ in 0..count / 100 {
                let request = request(&scheduler, "elsewhere", &client.to_string()).await;
                drop(scheduler.execute(request).await.expect("accepted"));
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client");
    }
}
