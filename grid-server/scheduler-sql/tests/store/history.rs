//! Leases that ended and why jobs waited: what the history keeps of them, and for how long.

use std::time::Duration;

use bytes::Bytes;
use grid_core::Timestamp;
use grid_scheduler::fleet::waits::EVERY;
use grid_scheduler::fleet::{Wait, WaitQuery, WaitReason};
use grid_scheduler::history::{Ending, Usage};
use grid_scheduler::store::RunQuery;
use grid_scheduler::transition::{self, Cause, RetryPolicy};

use crate::{LATE, Stores, begin, insert, linux, on_all, session};

on_all!(
    every_lease_that_ended_is_kept,
    old_leases_are_forgotten_in_pieces,
    a_lease_is_kept_once,
    why_jobs_waited_is_kept_and_forgotten
);

const USED: Usage = Usage { cpu: Duration::from_millis(1_500), memory: 3 << 30 };

fn all() -> RunQuery {
    RunQuery { limit: 100, ..RunQuery::default() }
}

/// A job that was lost once, then ran to its end: its first lease ends at `at`, its second a second later.
async fn ran(stores: &Stores, number: u128, at: i64) -> grid_scheduler::job::Job {
    let mut job = linux(number);
    (job.spec.mnemonic, job.spec.tool) = ("CppCompile\0".to_owned(), "bazel".to_owned());
    insert(stores, std::slice::from_ref(&job)).await;
    let bot = session(4, "b", LATE);
    transition::assign(&mut job, &bot, "", Timestamp(at - 500)).unwrap();
    transition::release(&mut job, Cause::WorkerLost, RetryPolicy::default(), Timestamp(at));
    transition::assign(&mut job, &bot, "", Timestamp(at + 100)).unwrap();
    transition::finish(&mut job, Bytes::new(), USED, Timestamp(at).after(Duration::from_secs(1)));
    let mut tx = begin(stores).await;
    tx.save_jobs(std::slice::from_ref(&job)).await.unwrap();
    tx.commit().await.unwrap();
    job
}

async fn every_lease_that_ended_is_kept(stores: Stores) {
    let job = ran(&stores, 1, 5_000).await;
    ran(&stores, 2, 9_000).await;
    let own = RunQuery { job: Some(job.id), ..all() };
    let runs = stores.other.runs(&own).await.unwrap();
    let told: Vec<_> = runs.iter().map(|run| (run.attempt, run.ending, run.usage)).collect();
    assert_eq!(told, [(2, Ending::Finished, USED), (1, Ending::WorkerLost, Usage::default())]);
    assert_eq!((runs[0].started_at, runs[0].ended_at), (Timestamp(5_100), Timestamp(1_005_000)));
    assert_eq!((runs[1].started_at, runs[1].ended_at), (Timestamp(4_500), Timestamp(5_000)));
    assert_eq!((runs[0].bot.as_str(), runs[0].pool.as_str()), ("b", "builds/linux"));
    assert_eq!(runs[0].tool, "bazel");
    let since = RunQuery { since: Some(Timestamp(9_000)), ..all() };
    assert_eq!(stores.store.runs(&since).await.unwrap().len(), 2, "later than, not from then on");
    let newest = RunQuery { limit: 1, ..all() };
    assert_eq!(stores.store.runs(&newest).await.unwrap()[0].ended_at, Timestamp(1_009_000));
}

async fn old_leases_are_forgotten_in_pieces(stores: Stores) {
    ran(&stores, 1, 5_000).await;
    ran(&stores, 2, 9_000).await;
    let mut tx = begin(&stores).await;
    assert_eq!(tx.prune_runs(Timestamp(1_009_000), 2).await.unwrap(), 2);
    assert_eq!(tx.prune_runs(Timestamp(1_009_000), 2).await.unwrap(), 1);
    assert_eq!(tx.prune_runs(Timestamp(1_009_000), 2).await.unwrap(), 0);
    tx.commit().await.unwrap();
    assert_eq!(stores.store.runs(&all()).await.unwrap().len(), 1);
}

async fn a_lease_is_kept_once(stores: Stores) {
    let job = ran(&stores, 1, 5_000).await;
    let mut tx = begin(&stores).await;
    tx.save_jobs(std::slice::from_ref(&job)).await.unwrap();
    // The history outlives the job.
    assert_eq!(tx.prune(Timestamp(LATE), 10).await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(stores.store.runs(&all()).await.unwrap().len(), 2);
}

async fn why_jobs_waited_is_kept_and_forgotten(stores: Stores) {
    let own = linux(1).spec.requirement;
    let wait = |requirement, reason: WaitReason, since, until| Wait {
        requirement,
        since: Timestamp(since),
        until: Timestamp(until),
        reason,
        text: format!("{} until {until}", reason.name()),
    };
    let other = crate::requirement("other").id();
    let mut tx = begin(&stores).await;
    tx.save_waits(&[
        wait(own, WaitReason::ScalingUp, 1_000, 2_000),
        wait(EVERY, WaitReason::NoScheduler, 3_000, 4_000),
        // Texts hold what clients ask for.
        Wait { text: "a\0b".to_owned(), ..wait(other, WaitReason::PoolStopped, 1_000, 9_000) },
    ])
    .await
    .unwrap();
    tx.save_waits(&[wait(own, WaitReason::ScalingUp, 1_000, 2_500)]).await.unwrap();
    tx.commit().await.unwrap();
    let query = WaitQuery { requirement: own, since: Timestamp(2_500), until: Timestamp(3_000), limit: 10 };
    let every = wait(EVERY, WaitReason::NoScheduler, 3_000, 4_000);
    let found = stores.other.waits(&query).await.unwrap();
    assert_eq!(found, [every.clone(), wait(own, WaitReason::ScalingUp, 1_000, 2_500)]);
    let newest = WaitQuery { limit: 1, ..query };
    assert_eq!(stores.store.waits(&newest).await.unwrap(), [every]);
    let later = WaitQuery { since: Timestamp(2_501), until: Timestamp(2_999), ..query };
    assert_eq!(stores.store.waits(&later).await.unwrap(), []);

    let mut tx = begin(&stores).await;
    let latest = tx.latest_waits(Timestamp(4_000)).await.unwrap();
    assert_eq!(latest.len(), 2, "{latest:?}");
    tx.prune_runs(Timestamp(4_000), 10).await.unwrap();
    tx.commit().await.unwrap();
    let all = WaitQuery { since: Timestamp(0), until: Timestamp(LATE), ..query };
    let left = stores.store.waits(&all).await.unwrap();
    assert_eq!(left.iter().map(|wait| wait.reason).collect::<Vec<_>>(), [WaitReason::NoScheduler]);
}
