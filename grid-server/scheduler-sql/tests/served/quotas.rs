//! Quotas that three replicas on one PostgreSQL keep together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use grid_scheduler::job::Job;
use grid_scheduler::quota::{Cohort, Quota};
use grid_scheduler::simulation::load::Asker;
use grid_scheduler::{Scheduler, SchedulerOptions};
use grid_scheduler_sql::PostgresQueue;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{Bot, PATIENCE, ask, finished, postgres, replica, running};

async fn replicas(options: &SchedulerOptions) -> [Arc<Scheduler>; 3] {
    let pool = postgres().await;
    [(); 3].map(|()| replica(PostgresQueue::new(pool.clone()), options))
}

fn options(preempting: &[&str]) -> SchedulerOptions {
    SchedulerOptions {
        instance_pools: vec![vec![String::new(), "a".to_owned(), "b".to_owned()]],
        cohorts: vec![Cohort { name: "c".to_owned(), labels: ["linux".to_owned()].into() }],
        preempting: preempting.iter().map(|name| (*name).to_owned()).collect(),
        preemption_delay: Duration::from_millis(100),
        ..SchedulerOptions::default()
    }
}

async fn put(scheduler: &Scheduler, instance: &str, min: u32, max: u32) {
    let quota = Quota { cohort: "c".to_owned(), instance: instance.to_owned(), min, max };
    scheduler.put_quota(quota).await.unwrap();
}

fn of(instance: &str) -> Asker<'_> {
    Asker { instance, ..Asker::new("invocation") }
}

/// Bots on every replica take what they get; of one instance there are never more leases than its maximum.
#[tokio::test]
async fn a_maximum_holds_over_all_replicas() {
    let replicas = replicas(&options(&[])).await;
    put(&replicas[0], "a", 0, 2).await;
    let limited = ask(&replicas[0], of("a"), 0..60).await;
    let free = ask(&replicas[1], of("b"), 100..130).await;
    let held = Arc::new(AtomicUsize::new(0));
    let mut bots = JoinSet::new();
    for (number, scheduler) in replicas.iter().cycle().take(12).enumerate() {
        let bot = Bot::open(scheduler, &format!("bot-{number}"), 1).await;
        bots.spawn(work(bot, Arc::clone(&held)));
    }
    let all = async {
        for mut watch in limited.into_iter().chain(free) {
            while !watch.view().is_final() {
                watch.changed().await;
            }
        }
    };
    tokio::select! {
        ended = timeout(PATIENCE, all) => ended.unwrap(),
        died = bots.join_next() => panic!("{died:?}"),
    }
}

async fn work(bot: Bot, held: Arc<AtomicUsize>) {
    let limited = |jobs: &[Job]| jobs.iter().filter(|job| job.spec.instance == "a").count();
    let mut done: Vec<Job> = Vec::new();
    loop {
        let got = bot.report(done.iter().map(finished).collect(), Duration::from_secs(5)).await;
        let now = held.fetch_add(limited(&got), Ordering::SeqCst) + limited(&got);
        assert!(now <= 2, "{now} leases of an instance that may hold 2");
        done = bot.report(got.iter().map(running).collect(), Duration::ZERO).await;
        // From when it says that they are over they are no longer held.
        held.fetch_sub(limited(&got), Ordering::SeqCst);
    }
}

/// A bot on one replica is stuck with one instance's actions; another instance asks on another replica for what it is due,
/// and gets it on a third's.
#[tokio::test]
async fn a_lease_is_taken_whichever_replica_it_is_held_on() {
    let replicas = replicas(&options(&["c"])).await;
    put(&replicas[2], "a", 1, 4).await;
    put(&replicas[2], "b", 2, 4).await;
    let _first = ask(&replicas[0], of("a"), 0..4).await;
    let bot = Bot::open(&replicas[1], "bot", 4).await;
    let mut held = bot.report(Vec::new(), PATIENCE).await;
    assert_eq!(held.len(), 4);
    let _second = ask(&replicas[2], of("b"), 10..14).await;
    let count = |jobs: &[Job], instance: &str| jobs.iter().filter(|j| j.spec.instance == instance).count();
    let taken = async {
        while count(&held, "b") < 2 {
            held = bot.report(held.iter().map(running).collect(), Duration::from_millis(200)).await;
        }
    };
    timeout(PATIENCE, taken).await.unwrap();
    assert_eq!((count(&held, "a"), count(&held, "b")), (2, 2), "as many as it is due, and no more");
    let shares = replicas[0].shares().await.unwrap();
    assert_eq!(shares.iter().map(|share| share.used).collect::<Vec<_>>(), [2, 2]);
}
