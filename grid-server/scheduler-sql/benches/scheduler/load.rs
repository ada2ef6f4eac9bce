//! Clients and bots that do nothing but call the scheduler.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use grid_core::{Digest, DigestFunction};
use grid_scheduler::Scheduler;
use grid_scheduler::engine::BotReport;
use grid_scheduler::history::Usage;
use grid_scheduler::ids::JobId;
use grid_scheduler::operation::{ClientIdentity, RequestMetadata};
use grid_scheduler::properties::Properties;
use grid_scheduler::service::{ExecuteRequest, Poll, Standing};
use grid_scheduler::session::{BotStatus, News, ReportedLease, Session};
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
    let platform = vec![("OSFamily".to_owned(), system.to_owned())];
    let action = action();
    ExecuteRequest {
        instance: String::new(),
        action_digest: Digest::of(DigestFunction::Sha256, &action),
        action,
        command: "cc -c -o file.o file.c".to_owned(),
        requirement: scheduler.requirement("", &platform).await.expect("a known platform"),
        platform,
        priority: 0,
        cacheable: true,
        timeout: None,
        locality: String::new(),
        client: ClientIdentity::default(),
        metadata: RequestMetadata { invocation_id: invocation.to_owned(), ..RequestMetadata::default() },
        cached: None,
    }
}

async fn execute(scheduler: &Scheduler, system: &str, invocation: &str) {
    let request = request(scheduler, system, invocation).await;
    let mut watch = scheduler.execute(request).await.expect("accepted");
    while !watch.view().is_final() {
        watch.changed().await;
    }
}

async fn open(scheduler: &Scheduler, name: &str, system: &str, capacity: u32) -> Session {
    let standing = Standing {
        instance: String::new(),
        bot_id: name.to_owned(),
        properties: Properties::from([("OSFamily".to_owned(), [system.to_owned()].into())]),
        capacity,
        priority: 0,
        status: BotStatus::Ok,
        worker_pool: String::new(),
        node: String::new(),
        version: String::new(),
    };
    scheduler.open_session(standing).await.expect("a session")
}

/// A bot that finishes at once whatever it is given, and tells `heard` of it.
async fn work(scheduler: Arc<Scheduler>, session: Session, heard: Option<mpsc::UnboundedSender<Instant>>) {
    let mut done: BTreeMap<(JobId, u32), News> = BTreeMap::new();
    loop {
        let leases = std::mem::take(&mut done).into_iter();
        let report = BotReport {
            session: session.id,
            bot_id: session.bot_id.clone(),
            properties: None,
            capacity: None,
            status: BotStatus::Ok,
            leases: leases.map(|((job, attempt), news)| lease(job, attempt, news)).collect(),
            lifetime: scheduler.lifetime(),
        };
        let poll = Poll { wait: POLL, when_full: true };
        let synced = scheduler.report(report, poll).await.expect("an answer");
        let now = Instant::now();
        for job in &synced.held {
            if let Some(heard) = &heard {
                // The receiver has all that it wants.
                let _ = heard.send(now);
            }
            done.insert((job.id, job.state.attempts), News::Finished(Bytes::from_static(RESPONSE)));
        }
    }
}

fn lease(job: JobId, attempt: u32, news: News) -> ReportedLease {
    ReportedLease { job, attempt, news, usage: Usage { cpu: Duration::from_millis(700), memory: 90 << 20 } }
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
