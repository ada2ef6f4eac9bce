//! Where no news comes through, what it would have told is found all the same.

use std::time::Duration;

use grid_scheduler::SchedulerOptions;
use grid_scheduler::simulation::load::Asker;
use grid_scheduler_sql::PostgresQueue;
use tokio::time::timeout;

use crate::{Bot, PATIENCE, ask, finished, postgres, replica};

/// Both replicas listen where nothing is ever said: a job that comes on one is found on the other, and its client hears of
/// its end.
#[tokio::test]
async fn a_job_goes_from_replica_to_replica_and_back_without_news() {
    let (pool, silent) = (postgres().await, postgres().await);
    let options = SchedulerOptions { safety_poll: Duration::from_millis(300), ..SchedulerOptions::default() };
    let deaf = || replica(PostgresQueue::new(pool.clone()).with_notifier(silent.clone()), &options);
    let (first, second) = (deaf(), deaf());
    let bot = Bot::open(&second, "bot", 1).await;
    let waiting = tokio::spawn(async move {
        let held = bot.report(Vec::new(), PATIENCE).await;
        assert_eq!(held.len(), 1, "the job was not found");
        bot.report(held.iter().map(finished).collect(), Duration::ZERO).await;
    });
    let mut watch = ask(&first, Asker::new("invocation"), 0..1).await.remove(0);
    timeout(PATIENCE, waiting).await.unwrap().unwrap();
    let told = async {
        while !watch.view().is_final() {
            watch.changed().await;
        }
    };
    timeout(PATIENCE, told).await.unwrap();
}
