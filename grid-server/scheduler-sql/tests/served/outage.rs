//! A database that is gone for a while in the middle of everything: what was accepted is kept, what runs is run once, who
//! asks meanwhile is held as long as its patience lasts and then told when to come again.
//!
//! `GRID_OUTAGE_SECONDS=60` makes the while a minute.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use grid_core::{Coded as _, ErrorCode};
use grid_scheduler::ids::JobId;
use grid_scheduler::service::Poll;
use grid_scheduler::simulation::load::{self, Asker};
use grid_scheduler::{SchedulerOptions, Watch};
use grid_scheduler_sql::testing::Postgres;
use grid_scheduler_sql::{Database, DatabaseOptions, PostgresQueue, migrate};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::faults::asked;
use crate::{Bot, PATIENCE, ask, finished, replica};

const BOTS: usize = 4;
/// Actions asked for before, and while it is gone.
const BEFORE: u32 = 20;
const MEANWHILE: u32 = 10;

/// Hears of leases whose results were taken: which job, which attempt.
type Taken = mpsc::UnboundedSender<(JobId, u32)>;

/// Runs what it is given, its first lease until the database is gone, and reports until it is heard.
async fn runs(bot: Bot, mut gone: watch::Receiver<bool>, taken: Taken) {
    let mut held = Vec::new();
    loop {
        let leases = held.iter().map(finished).collect();
        let report = load::report(&bot.session, bot.scheduler.lifetime(), leases);
        let poll = Poll { wait: Duration::from_secs(5), when_full: false };
        match bot.scheduler.report(report, poll).await {
            Ok(synced) => {
                for job in &held {
                    taken.send((job.id, job.state.attempts)).unwrap();
                }
                held = synced.held;
            }
            Err(error) => assert_eq!(error.code(), ErrorCode::Unavailable, "{error}"),
        }
        if !held.is_empty() {
            gone.wait_for(|gone| *gone).await.unwrap();
        }
    }
}

async fn end(mut watch: Watch) -> JobId {
    while !watch.view().is_final() {
        watch.changed().await;
    }
    watch.view().job.id
}

#[tokio::test]
async fn a_database_that_is_gone_for_a_while_costs_nothing_but_time() {
    let seconds = std::env::var("GRID_OUTAGE_SECONDS").ok().and_then(|text| text.parse().ok());
    let outage = Duration::from_secs(seconds.unwrap_or(3));
    let database = tokio::task::spawn_blocking(|| Arc::new(Postgres::start(&[]))).await.unwrap();
    let url = database.create("queue");
    let options = SchedulerOptions { patience: outage / 2, ..SchedulerOptions::default() };
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let opened = Database::open(&url, DatabaseOptions::default()).await.unwrap();
        migrate::migrate(&opened).await.unwrap();
        let Database::Postgres(pool) = opened else { unreachable!() };
        replicas.push(replica(PostgresQueue::new(pool), &options));
    }
    let (tell, gone) = watch::channel(false);
    let (taken, mut results) = mpsc::unbounded_channel();
    let mut bots = JoinSet::new();
    for number in 0..BOTS {
        let bot = Bot::open(&replicas[1], &format!("bot-{number}"), 1).await;
        bots.spawn(runs(bot, gone.clone(), taken.clone()));
    }
    let mut watches = ask(&replicas[0], Asker::new("before"), 0..BEFORE).await;
    let request = Asker::new("refused").request(&replicas[0], b"refused".as_slice().into()).await.unwrap();

    let stopped = Arc::clone(&database);
    tokio::task::spawn_blocking(move || stopped.stop()).await.unwrap();
    let began = Instant::now();
    tell.send_replace(true);
    let refused = replicas[0].execute(request).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unavailable, "{refused}");
    assert!(refused.retry_after().is_some(), "a client is told when to come again");
    assert!(began.elapsed() < outage, "it was held for longer than its patience: {:?}", began.elapsed());
    let meanwhile: Vec<_> =
        (0..MEANWHILE).map(|number| asked(&replicas[0], &(BEFORE + number).to_le_bytes())).collect();
    sleep(outage.saturating_sub(began.elapsed())).await;
    let _database = tokio::task::spawn_blocking(move || {
        database.launch(&[]);
        database
    })
    .await
    .unwrap();

    let all = async {
        for asked in meanwhile {
            watches.push(asked.await.unwrap());
        }
        let mut ended = BTreeSet::new();
        for watch in watches {
            ended.insert(end(watch).await);
        }
        ended
    };
    let ended = tokio::select! {
        ended = timeout(PATIENCE, all) => ended.expect("everybody hears of the end"),
        died = bots.join_next() => panic!("a bot ended: {died:?}"),
    };
    assert_eq!(ended.len(), (BEFORE + MEANWHILE) as usize);
    for _ in 0..ended.len() {
        let (job, attempt) = timeout(PATIENCE, results.recv()).await.unwrap().unwrap();
        assert!(ended.contains(&job), "{job} was nobody's");
        assert_eq!(attempt, 1, "the lease of {job} was given twice");
    }
    assert!(results.try_recv().is_err(), "an action was run twice");
}
