//! With turns a small invocation waits for no other's whole queue; without them the order is priority, then age.

use std::sync::Arc;

use grid_scheduler::job::Job;
use grid_scheduler::simulation::load::Asker;
use grid_scheduler::{Scheduler, SchedulerOptions};
use grid_scheduler_sql::PostgresQueue;

use crate::{Bot, PATIENCE, ask, finished, postgres, replica, sqlite};

const SLOTS: u32 = 8;

/// What each round of a bot with all the slots gets; every round finishes what the one before began.
async fn round(bot: &Bot, done: &mut Vec<Job>) -> Vec<Job> {
    let got = bot.report(done.iter().map(finished).collect(), PATIENCE).await;
    done.clone_from(&got);
    got
}

/// Two invocations of a thousand actions fill the slots; a third with ten has them all begun within three actions' time
/// after the first slot that comes free.
async fn a_small_invocation_waits_for_no_other_s_whole_queue(scheduler: Arc<Scheduler>) {
    let mut watches = ask(&scheduler, Asker::new("one"), 0..1_000).await;
    watches.extend(ask(&scheduler, Asker::new("two"), 1_000..2_000).await);
    let bot = Bot::open(&scheduler, "bot", SLOTS).await;
    let mut done = Vec::new();
    let mut begun = Vec::new();
    for _ in 0..3 {
        begun.extend(round(&bot, &mut done).await);
    }
    watches.extend(ask(&scheduler, Asker::new("three"), 2_000..2_010).await);
    let mut third = Vec::new();
    for _ in 0..4 {
        let got = round(&bot, &mut done).await;
        third.push(got.iter().filter(|job| job.spec.flow == "three").count());
        begun.extend(got);
    }
    assert!(third[0] > 0, "{third:?}");
    assert_eq!(third.iter().sum::<usize>(), 10, "{third:?}");
    let share = |flow: &str| begun.iter().filter(|job| job.spec.flow == flow).count();
    assert!(share("one").abs_diff(share("two")) <= SLOTS as usize, "{} and {}", share("one"), share("two"));
}

async fn without_turns_the_order_is_priority_then_age(scheduler: Arc<Scheduler>) {
    let mut watches = Vec::new();
    let mut next = 0;
    for (invocation, priority, actions) in [("one", 0, 20), ("two", 5, 10), ("three", 0, 10), ("four", -1, 6)]
    {
        watches.extend(
            ask(&scheduler, Asker { priority, ..Asker::new(invocation) }, next..next + actions).await,
        );
        next += actions;
    }
    let bot = Bot::open(&scheduler, "bot", SLOTS).await;
    let mut done = Vec::new();
    let mut rounds = Vec::new();
    while rounds.len() < 6 {
        rounds.push(round(&bot, &mut done).await);
    }
    let key = |job: &Job| (job.state.priority, job.state.queued_at);
    let begun: usize = rounds.iter().map(Vec::len).sum();
    assert_eq!(begun, 46);
    for (before, after) in rounds.iter().zip(rounds.iter().skip(1)) {
        assert!(before.iter().map(key).max() <= after.iter().map(key).min(), "{before:?}\n{after:?}");
    }
}

fn fair() -> SchedulerOptions {
    SchedulerOptions { fair: true, ..SchedulerOptions::default() }
}

#[tokio::test]
async fn fairness_on_postgres() {
    let (turns, age) = (PostgresQueue::new(postgres().await), PostgresQueue::new(postgres().await));
    a_small_invocation_waits_for_no_other_s_whole_queue(replica(turns, &fair())).await;
    without_turns_the_order_is_priority_then_age(replica(age, &SchedulerOptions::default())).await;
}

#[tokio::test]
async fn fairness_on_sqlite() {
    let ((turns, _first), (age, _second)) = (sqlite().await, sqlite().await);
    a_small_invocation_waits_for_no_other_s_whole_queue(replica(turns, &fair())).await;
    without_turns_the_order_is_priority_then_age(replica(age, &SchedulerOptions::default())).await;
}
