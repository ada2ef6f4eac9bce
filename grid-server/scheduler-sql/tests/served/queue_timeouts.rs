//! Jobs are given up that waited for longer than their instance allows, and no others.

use std::sync::Arc;
use std::time::Duration;

use grid_core::ErrorCode;
use grid_scheduler::engine::QueueTimeout;
use grid_scheduler::job::Outcome;
use grid_scheduler::simulation::load::Asker;
use grid_scheduler::{Scheduler, SchedulerOptions, Watch};
use grid_scheduler_sql::PostgresQueue;
use tokio::time::timeout;

use crate::{Bot, PATIENCE, ask, finished, postgres, replica, sqlite};

fn options() -> SchedulerOptions {
    let queue = |name: &str, max_age, instances: &[&str]| QueueTimeout {
        name: name.to_owned(),
        max_age,
        instances: instances.iter().map(|&instance| instance.to_owned()).collect(),
    };
    SchedulerOptions {
        queue_timeouts: vec![
            queue("", Duration::from_hours(1), &[]),
            queue("short", Duration::from_millis(200), &["hasty", "other"]),
        ],
        sweep_interval: Duration::from_millis(100),
        ..SchedulerOptions::default()
    }
}

async fn end(watch: &mut Watch) -> Outcome {
    let told = async {
        loop {
            if let Some(outcome) = watch.view().job.state.outcome.clone() {
                return outcome;
            }
            watch.changed().await;
        }
    };
    timeout(PATIENCE, told).await.unwrap()
}

async fn hasty_instances_give_up_and_patient_ones_wait(scheduler: Arc<Scheduler>) {
    let mut patient = ask(&scheduler, Asker::new("one"), 0..1).await.remove(0);
    let asker = Asker { instance: "hasty", ..Asker::new("two") };
    let mut hasty = ask(&scheduler, asker, 1..2).await.remove(0);
    let Outcome::Failed { code, message } = end(&mut hasty).await else { panic!("nobody ran it") };
    assert_eq!(code, ErrorCode::Unavailable);
    assert_eq!(message, "no worker took the operation within 0 s (queue timeout `short`)");
    // The patient one waited for longer, and is still run.
    let bot = Bot::open(&scheduler, "bot", 1).await;
    let held = bot.report(Vec::new(), PATIENCE).await;
    bot.report(held.iter().map(finished).collect(), Duration::ZERO).await;
    assert!(matches!(end(&mut patient).await, Outcome::Finished { .. }));
}

#[tokio::test]
async fn queue_timeouts_on_postgres() {
    let store = PostgresQueue::new(postgres().await);
    hasty_instances_give_up_and_patient_ones_wait(replica(store, &options())).await;
}

#[tokio::test]
async fn queue_timeouts_on_sqlite() {
    let (store, _folder) = sqlite().await;
    hasty_instances_give_up_and_patient_ones_wait(replica(store, &options())).await;
}
