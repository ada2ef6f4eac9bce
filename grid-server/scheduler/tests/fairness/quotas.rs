//! Instances that share a cohort of bots: none holds more than its maximum, and each gets what it is due, by leases that
//! are taken from others if need be.

use std::time::Duration;

use grid_scheduler::SchedulerOptions;
use grid_scheduler::history::Ending;
use grid_scheduler::job::Stage;
use grid_scheduler::quota::{Cohort, Quota};
use tokio::time::sleep;

use crate::{ACTION, Grid};

fn options(preempting: &[&str]) -> SchedulerOptions {
    SchedulerOptions {
        instance_pools: vec![vec![String::new(), "a".to_owned(), "b".to_owned()]],
        cohorts: vec![Cohort { name: "c".to_owned(), labels: ["linux".to_owned()].into() }],
        preempting: preempting.iter().map(|name| (*name).to_owned()).collect(),
        preemption_delay: Duration::from_secs(20),
        ..SchedulerOptions::default()
    }
}

async fn put(grid: &Grid, instance: &str, min: u32, max: u32) {
    let quota = Quota { cohort: "c".to_owned(), instance: instance.to_owned(), min, max };
    grid.scheduler.put_quota(quota).await.unwrap();
}

/// How many leases each of the instances holds.
async fn held(grid: &Grid) -> (usize, usize) {
    let tables = grid.store.tables().await;
    let of = |instance: &str| {
        let held = |job: &&_| {
            let job: &grid_scheduler::job::Job = job;
            job.state.stage == Stage::Executing && job.spec.instance == instance
        };
        tables.jobs.values().map(AsRef::as_ref).filter(held).count()
    };
    (of("a"), of("b"))
}

#[tokio::test(start_paused = true)]
async fn an_instance_at_its_maximum_waits_and_bars_nobody_else() {
    let mut grid = Grid::new(options(&[]));
    put(&grid, "a", 0, 2).await;
    let mut watches = grid.ask_as("a", "one", 0, 50).await;
    watches.extend(grid.ask_as("b", "two", 5, 3).await);
    grid.work(6);
    sleep(ACTION / 2).await;
    assert_eq!(held(&grid).await, (2, 3), "one bot is left over, for which nobody is admitted");
    sleep(ACTION).await;
    assert_eq!(held(&grid).await, (2, 0), "what ends is replaced at once");
    put(&grid, "a", 0, 4).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(held(&grid).await, (4, 0), "a new quota holds from then on");
    grid.scheduler.delete_quota("c", "a").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(held(&grid).await, (6, 0), "without one there is no limit");
}

#[tokio::test(start_paused = true)]
async fn who_has_less_than_it_is_due_comes_first_whatever_the_priority() {
    let mut grid = Grid::new(options(&[]));
    put(&grid, "b", 3, 10).await;
    let mut watches = grid.ask_as("a", "one", -5, 50).await;
    watches.extend(grid.ask_as("b", "two", 5, 50).await);
    grid.work(8);
    sleep(ACTION / 2).await;
    assert_eq!(held(&grid).await, (5, 3));
    sleep(ACTION).await;
    assert_eq!(held(&grid).await, (5, 3));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_taken_for_who_waits_too_long_for_its_due_and_not_taken_back() {
    let mut grid = Grid::new(options(&["c"]));
    put(&grid, "a", 1, 4).await;
    put(&grid, "b", 2, 4).await;
    // One bot, that is stuck with what it runs: only preemption can help.
    let watches = grid.ask_as("a", "one", 0, 4).await;
    grid.hold(4);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(held(&grid).await, (4, 0));
    let more = grid.ask_as("b", "two", 9, 4).await;
    sleep(Duration::from_secs(15)).await;
    assert_eq!(held(&grid).await, (4, 0), "not before the delay is over");
    sleep(Duration::from_secs(25)).await;
    assert_eq!(held(&grid).await, (2, 2), "as many as it is due, and no more");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(held(&grid).await, (2, 2), "nobody is below what it is due any more");
    let tables = grid.store.tables().await;
    assert_eq!(tables.runs.values().filter(|run| run.ending == Ending::Preempted).count(), 2);
    let shares = grid.scheduler.shares().await.unwrap();
    assert_eq!(shares.iter().map(|s| (s.used, s.ceiling())).collect::<Vec<_>>(), [(2, 2), (2, 4)]);
    drop((watches, more));
}

#[tokio::test(start_paused = true)]
async fn a_quota_needs_a_cohort_that_is_configured_and_a_minimum_below_its_maximum() {
    let grid = Grid::new(options(&[]));
    for (cohort, min, max, says) in [("x", 0, 1, "configured: c"), ("c", 2, 1, "more than max_quota, 1")] {
        let quota = Quota { cohort: cohort.to_owned(), instance: "a".to_owned(), min, max };
        let error = grid.scheduler.put_quota(quota).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    let error = grid.scheduler.delete_quota("c", "a").await.unwrap_err();
    assert!(error.to_string().contains("not found"), "{error}");
}
