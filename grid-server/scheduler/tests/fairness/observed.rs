//! What an observer hears of what a replica does.

use std::sync::Arc;
use std::time::Duration;

use grid_scheduler::SchedulerOptions;
use grid_scheduler::engine::SweepKind;
use grid_scheduler::history::Run;
use grid_scheduler::properties::{DynamicSet, PropertySet};
use grid_scheduler::quota::{Cohort, Quota};
use grid_scheduler::service::{Assigned, Bots, Counts, Jobs, Kind, Observer, SchedulerEvent};
use grid_scheduler::session::BotStatus;
use grid_scheduler::simulation::load;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::{ACTION, Grid};

#[derive(Debug, Default)]
struct Notes {
    heard: Mutex<Vec<String>>,
    counts: Mutex<Counts>,
}

impl Notes {
    fn has(&self, what: &str) -> bool {
        self.heard.lock().iter().any(|heard| heard == what)
    }
}

impl Observer for Notes {
    fn assigned(&self, assigned: Assigned<'_>) {
        self.heard.lock().push(format!("assigned in {}", assigned.instance));
    }

    fn ended(&self, _: &str, _: &Run) {}

    fn counted(&self, counts: &Counts) {
        *self.counts.lock() = counts.clone();
    }

    fn event(&self, event: SchedulerEvent<'_>) {
        self.heard.lock().push(match event {
            SchedulerEvent::Claimed { failed, .. } => format!("claimed {failed}"),
            SchedulerEvent::Synchronized { failed, .. } => format!("synchronized {failed}"),
            SchedulerEvent::Delivered { label, .. } => format!("delivered {label}"),
            SchedulerEvent::Swept { kind, jobs, .. } => format!("swept {kind:?} {jobs}"),
            SchedulerEvent::SecondBest { label, instance } => format!("second best {label} {instance}"),
            SchedulerEvent::Stage { stage, .. } => format!("stage {stage}"),
        });
    }
}

fn observed(options: SchedulerOptions) -> (Grid, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    (Grid::new(SchedulerOptions { observer: Some(notes.clone()), ..options }), notes)
}

#[tokio::test(start_paused = true)]
async fn an_observer_hears_of_claims_reports_and_leases() {
    let (mut grid, notes) = observed(SchedulerOptions::default());
    let watches = grid.ask("one", 0, 1).await;
    grid.work(1);
    sleep(ACTION).await;
    for what in ["claimed false", "synchronized false", "delivered linux", "assigned in "] {
        assert!(notes.has(what), "{what} is not in {:?}", notes.heard.lock());
    }
    assert!(!notes.has("second best linux "), "it preferred nothing");
    drop(watches);
}

#[tokio::test(start_paused = true)]
async fn an_observer_hears_of_jobs_whose_preference_is_not_met() {
    let preferring = DynamicSet { preferred: ["OSFamily".to_owned()].into(), ..DynamicSet::default() };
    let (mut grid, notes) = observed(SchedulerOptions {
        property_set: PropertySet::Dynamic(preferring),
        ..SchedulerOptions::default()
    });
    let standing = load::standing("bot", "windows", 1);
    let session = grid.scheduler.open_session(standing).await.unwrap();
    let watches = grid.ask("one", 0, 1).await;
    let report = load::report(&session, grid.scheduler.lifetime(), Vec::new());
    let poll = grid_scheduler::service::Poll { wait: ACTION, when_full: false };
    let held = grid.scheduler.report(report, poll).await.unwrap().held;
    assert_eq!(held.len(), 1, "it is run all the same");
    assert!(notes.has("second best linux "), "{:?}", notes.heard.lock());
    drop(watches);
}

#[tokio::test(start_paused = true)]
async fn an_observer_hears_what_sweeps_find() {
    let timeout = grid_scheduler::engine::QueueTimeout {
        name: String::new(),
        max_age: Duration::from_mins(1),
        instances: Vec::new(),
    };
    let (mut grid, notes) = observed(SchedulerOptions {
        queue_timeouts: vec![timeout],
        max_execution_timeout: Duration::from_mins(5),
        pruner_job_max_age: Some(Duration::from_mins(10)),
        ..SchedulerOptions::default()
    });
    let watches = grid.ask("one", 0, 2).await;
    grid.hold(1);
    sleep(Duration::from_mins(30)).await;
    let expected = [(SweepKind::QueueTimeout, 1), (SweepKind::ExecutionTimeout, 1), (SweepKind::Prune, 1)];
    for (kind, jobs) in expected {
        let what = format!("swept {kind:?} {jobs}");
        assert!(notes.has(&what), "{what} is not in {:?}", notes.heard.lock());
    }
    drop(watches);
}

#[tokio::test(start_paused = true)]
async fn jobs_and_bots_are_counted_without_declared_pools() {
    let (mut grid, notes) = observed(SchedulerOptions {
        cohorts: vec![Cohort { name: "c".to_owned(), labels: ["linux".to_owned()].into() }],
        ..SchedulerOptions::default()
    });
    let quota = Quota { cohort: "c".to_owned(), instance: String::new(), min: 3, max: 9 };
    grid.scheduler.put_quota(quota).await.unwrap();
    let watches = grid.ask("one", 0, 5).await;
    grid.hold(2);
    let mut unwell = load::standing("unwell", "linux", 4);
    unwell.status = BotStatus::Unhealthy;
    grid.scheduler.open_session(unwell).await.unwrap();
    sleep(Duration::from_secs(40)).await;

    let counts = notes.counts.lock().clone();
    let kind = |label: &str| Kind { instance: String::new(), label: label.to_owned() };
    assert_eq!(counts.jobs, [(kind("linux"), Jobs { queued: 3, executing: 2 })].into());
    let (well, unwell) = (Bots { bots: 2, slots: 2, free: 0 }, Bots { bots: 1, slots: 4, free: 4 });
    let expected = [("", BotStatus::Ok, well), ("linux", BotStatus::Ok, well)]
        .into_iter()
        .chain([("", BotStatus::Unhealthy, unwell), ("linux", BotStatus::Unhealthy, unwell)]);
    assert_eq!(counts.bots, expected.map(|(label, status, bots)| ((kind(label), status), bots)).collect());
    let [share] = &counts.shares[..] else { panic!("{:?}", counts.shares) };
    assert_eq!((share.share.used, share.bots, share.gap(), share.beyond()), (2, well, 1, 0));
    assert_eq!(counts.watchers, [(String::new(), 5)].into());
    assert_eq!(counts.served, [(String::new(), 3)].into());
    drop(watches);
}
