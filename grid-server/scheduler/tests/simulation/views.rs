//! What a replica shows of the fleet: it may be old, but what a reading told that began after a change stays told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use grid_scheduler::fleet::Declaration;
use grid_scheduler::simulation::{Faults, SimStore};
use grid_scheduler::{Scheduler, SchedulerOptions};
use tokio::time::{sleep, timeout};

use crate::replica;

/// The newest declaration of those that a replica shows.
fn revision(view: &grid_scheduler::fleet::View) -> u64 {
    view.declarations.iter().map(|declaration| declaration.revision).max().unwrap_or_default()
}

/// Readings overtake each other: their answers take longer or shorter.
async fn readings(seed: u64) {
    const LAST: u64 = 20;
    let faults = Faults { stall: Duration::from_millis(200), ..Faults::NONE };
    let store = SimStore::new(seed, faults, Box::new(|_| {}));
    let scheduler: Arc<Scheduler> = replica(&store, &SchedulerOptions::default(), 0);
    let mut shown = scheduler.watch_fleet();
    let told = AtomicU64::new(0);
    let reader = |pause: u64| {
        let scheduler = Arc::clone(&scheduler);
        async move {
            loop {
                scheduler.fleet().await.unwrap();
                sleep(Duration::from_millis(pause)).await;
            }
        }
    };
    let declarer = async {
        for revision in 1..=LAST {
            let owner = "sim/grid".to_owned();
            let declaration = Declaration { owner, revision, ..Declaration::default() };
            // It takes no time itself: readings are under way before and after it.
            store.set_faults(Faults::NONE);
            scheduler.declare(&declaration).await.unwrap();
            store.set_faults(faults);
            scheduler.fleet().await.unwrap();
            told.store(revision, Ordering::Relaxed);
        }
        std::future::pending::<()>().await;
    };
    let watcher = async {
        while told.load(Ordering::Relaxed) < LAST {
            shown.changed().await.unwrap();
            let (now, least) = (revision(&shown.borrow_and_update()), told.load(Ordering::Relaxed));
            assert!(now >= least, "schedule {seed}: revision {now} is shown after {least} was told");
        }
    };
    tokio::select! {
        () = reader(1) => {}
        () = reader(7) => {}
        () = reader(13) => {}
        () = declarer => {}
        ended = timeout(Duration::from_mins(5), watcher) => ended.expect("the last is shown in the end"),
    }
}

#[test]
fn what_was_told_of_the_fleet_is_not_taken_back() {
    for seed in 0..20 {
        crate::on_a_simulated_clock(readings(seed));
    }
}
