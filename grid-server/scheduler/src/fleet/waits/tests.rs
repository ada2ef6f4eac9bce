//! Spans of waits: where one goes on, where another begins, and which part of it a job's own wait is. Nothing is stored here;
//! `scheduler-sql`'s tests do that.

use std::time::Duration;

use super::*;
use crate::history::{Ending, Usage};
use crate::ids::JobId;

const A: RequirementId = RequirementId(Uuid::from_u128(1));
const B: RequirementId = RequirementId(Uuid::from_u128(2));

fn at(second: u64) -> Timestamp {
    Timestamp(1_000_000_000).after(Duration::from_secs(second))
}

fn wait(requirement: RequirementId, reason: WaitReason, since: u64, until: u64) -> Wait {
    let text = format!("{} at {until}", reason.name());
    Wait { requirement, since: at(since), until: at(until), reason, text }
}

fn seen(requirement: RequirementId, reason: WaitReason, second: u64) -> Seen {
    let text = format!("{} at {second}", reason.name());
    Seen { waiting: vec![(requirement, Explanation { reason, text, mismatch: None })], blind: None }
}

#[test]
fn a_reason_goes_on_and_the_next_one_begins_where_it_ended() {
    use WaitReason::{BehindOthers, ScalingUp};
    let first = note(&[], &seen(A, ScalingUp, 5), at(5));
    assert_eq!(first, [wait(A, ScalingUp, 5, 5)]);
    assert!(note(&first, &seen(A, ScalingUp, 6), at(6)).is_empty(), "another replica has just written it");
    let longer = note(&first, &seen(A, ScalingUp, 10), at(10));
    assert_eq!(longer, [wait(A, ScalingUp, 5, 10)]);
    let other = note(&longer, &seen(A, BehindOthers, 15), at(15));
    assert_eq!(other, [wait(A, BehindOthers, 10, 15)]);
    let back = note(&[longer[0].clone(), other[0].clone()], &seen(A, ScalingUp, 20), at(20));
    assert_eq!(back, [wait(A, ScalingUp, 15, 20)], "what has ended is not begun again");
    assert_eq!(note(&longer, &seen(B, ScalingUp, 15), at(15)), [wait(B, ScalingUp, 15, 15)]);
}

#[test]
fn what_runs_leaves_nothing_and_blindness_counts_unless_another_replica_saw() {
    assert!(note(&[], &seen(A, WaitReason::NotWaiting, 5), at(5)).is_empty());
    let blind = Seen { blind: Some(Duration::from_secs(40)), ..Seen::default() };
    let noted = note(&[], &blind, at(100));
    assert_eq!(noted.len(), 1);
    assert_eq!((noted[0].requirement, noted[0].reason), (EVERY, WaitReason::NoScheduler));
    assert_eq!((noted[0].since, noted[0].until), (at(60), at(100)));
    assert!(note(&[wait(A, WaitReason::ScalingUp, 80, 99)], &blind, at(100)).is_empty());
}

fn run(attempt: u32, started: u64, ended: u64) -> Run {
    Run {
        job: JobId(Uuid::nil()),
        attempt,
        instance: String::new(),
        mnemonic: String::new(),
        tool: String::new(),
        bot: String::new(),
        pool: String::new(),
        priority: 0,
        queued_at: at(0),
        started_at: at(started),
        ended_at: at(ended),
        ending: Ending::WorkerLost,
        usage: Usage::default(),
    }
}

#[test]
fn a_job_waits_before_between_and_after_its_leases() {
    let mut state = JobState::queued(at(0), 0, at(0));
    assert_eq!(windows(&state, &[], at(7)), [(at(0), at(7))], "it waits still");
    state.attempts = 1;
    state.started_at = Some(at(5));
    assert_eq!(windows(&state, &[], at(7)), [(at(0), at(5))], "it runs");
    let runs = [run(2, 40, 50), run(1, 5, 30)];
    state.attempts = 2;
    state.started_at = None;
    assert_eq!(windows(&state, &runs, at(60)), [(at(0), at(5)), (at(30), at(40)), (at(50), at(60))]);
    state.started_at = Some(at(40));
    state.completed_at = Some(at(50));
    assert_eq!(windows(&state, &runs, at(60)), [(at(0), at(5)), (at(30), at(40))], "it is over");
    assert_eq!(windows(&state, &[], at(60)), [(at(0), at(40))], "the history has forgotten its leases");
}

#[test]
fn only_what_falls_into_a_wait_explains_it() {
    let waits = [
        wait(A, WaitReason::ScalingUp, 0, 12),
        wait(EVERY, WaitReason::NoScheduler, 20, 35),
        wait(A, WaitReason::BehindOthers, 50, 60),
    ];
    let told = within(&waits, &[(at(5), at(10)), (at(30), at(40))]);
    let told: Vec<_> = told.iter().map(|wait| (wait.reason, wait.since, wait.until)).collect();
    let expected = [(WaitReason::ScalingUp, at(5), at(10)), (WaitReason::NoScheduler, at(30), at(35))];
    assert_eq!(told, expected);
}
