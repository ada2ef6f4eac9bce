//! With turns no invocation waits for another's whole queue, without them the order is priority, then age, and nothing
//! else, unless a share goes to the oldest.

use std::time::Duration;

use grid_scheduler::SchedulerOptions;
use tokio::time::sleep;

use crate::{ACTION, Grid};

const SLOTS: usize = 8;

/// Two invocations of a thousand actions fill the grid; the third, with ten, has them all begun within three times an
/// action after the first slot came free.
#[tokio::test(start_paused = true)]
async fn a_small_invocation_waits_for_no_other_s_whole_queue() {
    let mut grid = Grid::new(SchedulerOptions { fair: true, ..SchedulerOptions::default() });
    let mut watches = grid.ask("one", 0, 1_000).await;
    watches.extend(grid.ask("two", 0, 1_000).await);
    grid.work(SLOTS);
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
    let mut grid = Grid::new(SchedulerOptions::default());
    let mut watches = Vec::new();
    for (invocation, priority, actions) in [("one", 0, 20), ("two", 5, 10), ("three", 0, 10), ("four", -1, 6)]
    {
        watches.extend(grid.ask(invocation, priority, actions).await);
    }
    grid.work(SLOTS);
    sleep(ACTION * 7).await;
    let begun = grid.begun().await;
    assert_eq!(begun.len(), 46);
    let keys: Vec<_> = begun.iter().map(|job| (job.state.priority, job.state.queued_at)).collect();
    assert!(keys.is_sorted(), "{keys:?}");
}

/// Urgent work fills the grid for ever, and what is not urgent gets on with its share of the leases.
#[tokio::test(start_paused = true)]
async fn a_share_of_the_leases_goes_to_the_oldest_whatever_their_priority() {
    let mut grid = Grid::new(SchedulerOptions { aged_percent: 25, ..SchedulerOptions::default() });
    let mut watches = grid.ask("patient", 9, 20).await;
    watches.extend(grid.ask("urgent", -9, 400).await);
    grid.work(SLOTS);
    sleep(ACTION * 5 + ACTION / 2).await;
    let begun = grid.begun().await;
    let patient = begun.iter().filter(|job| job.spec.flow == "patient").count();
    assert_eq!(begun.len(), SLOTS * 6);
    assert_eq!(patient, SLOTS * 6 / 4, "a quarter of them");
}
