//! Rows of jobs and operations.

use bytes::Bytes;
use grid_core::{ErrorCode, Timestamp};
use grid_scheduler::filter::{self, ListQuery};
use grid_scheduler::history::Usage;
use grid_scheduler::job::Stage;
use grid_scheduler::store::Overdue;
use grid_scheduler::transition;

use crate::{LATE, Stores, begin, ids, insert, linux, on_all, operation, requirement, session};

on_all!(
    one_live_job_an_action,
    what_is_not_committed_never_was,
    every_part_of_a_job_comes_back,
    leases_are_found_by_session,
    what_is_overdue_is_found,
    old_jobs_go_with_their_operations,
    operations_are_cancelled_and_deleted,
);

async fn one_live_job_an_action(stores: Stores) {
    let first = linux(1);
    insert(&stores, std::slice::from_ref(&first)).await;
    let mut same = first.clone();
    same.id = linux(2).id;
    let mut apart = same.clone();
    (apart.id, apart.spec.cacheable) = (linux(3).id, false);
    let mut tx = begin(&stores).await;
    let refused = tx.insert_jobs(&[same.clone(), apart]).await.unwrap();
    assert_eq!(refused, [same.id], "a job that may not be shared is never in the way");
    let key = first.live_merge_key().unwrap();
    assert_eq!(ids(&tx.lock_merge_keys(&[key]).await.unwrap()), [1]);
    let mut over = first;
    transition::fail(&mut over, ErrorCode::Cancelled, "x", Timestamp(2_000));
    tx.save_jobs(&[over]).await.unwrap();
    assert_eq!(tx.insert_jobs(std::slice::from_ref(&same)).await.unwrap(), [], "it is over");
    tx.commit().await.unwrap();
}

async fn what_is_not_committed_never_was(stores: Stores) {
    let mut tx = begin(&stores).await;
    tx.insert_jobs(&[linux(1)]).await.unwrap();
    drop(tx);
    insert(&stores, &[linux(1)]).await;
    assert_eq!(ids(&stores.other.jobs(&[linux(1).id, linux(2).id]).await.unwrap()), [1]);
}

async fn every_part_of_a_job_comes_back(stores: Stores) {
    let mut wanted = linux(1);
    insert(&stores, std::slice::from_ref(&wanted)).await;
    let bot = session(4, "b", LATE);
    transition::assign(&mut wanted, &bot, "", Timestamp(3_000)).unwrap();
    wanted.state.progress = vec![1, 2];
    wanted.state.streams.stdout = "s".to_owned();
    let mut tx = begin(&stores).await;
    tx.save_jobs(std::slice::from_ref(&wanted)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(stores.store.jobs(&[wanted.id]).await.unwrap(), [wanted.clone()]);
    transition::finish(&mut wanted, Bytes::from_static(b"\x00response"), Usage::default(), Timestamp(4_000));
    let mut tx = begin(&stores).await;
    tx.save_jobs(std::slice::from_ref(&wanted)).await.unwrap();
    tx.commit().await.unwrap();
    wanted.ended.clear();
    wanted.closed.clear();
    assert_eq!(stores.store.jobs(&[wanted.id]).await.unwrap(), [wanted.clone()]);
    let mut tx = begin(&stores).await;
    assert_eq!(tx.lock_jobs(&[wanted.id]).await.unwrap()[0].state.stage, Stage::Completed);
}

async fn leases_are_found_by_session(stores: Stores) {
    let bot = session(4, "b", LATE);
    let (mut runs, mut over) = (linux(1), linux(2));
    transition::assign(&mut runs, &bot, "", Timestamp(3_000)).unwrap();
    transition::assign(&mut over, &bot, "", Timestamp(3_000)).unwrap();
    transition::finish(&mut over, Bytes::new(), Usage::default(), Timestamp(4_000));
    insert(&stores, &[runs, over, linux(3)]).await;
    let mut tx = begin(&stores).await;
    assert_eq!(ids(&tx.lock_leased(&[bot.id]).await.unwrap()), [1]);
    assert_eq!(tx.lock_leased(&[session(5, "c", LATE).id]).await.unwrap(), []);
    tx.save_sessions(&[bot]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(stores.store.fleet().await.unwrap().bots[0].1, 1, "one lease");
}

async fn what_is_overdue_is_found(stores: Stores) {
    let bot = session(4, "b", LATE);
    let (mut slow, mut own, mut other) = (linux(1), linux(2), linux(4));
    own.spec.timeout_micros = Some(1_000_000);
    other.spec.requirement = requirement("macos").id();
    other.spec.instance = "apps".to_owned();
    for job in [&mut slow, &mut own] {
        transition::assign(job, &bot, "", Timestamp(3_000)).unwrap();
        job.state.watched_until = Timestamp(LATE);
    }
    let mut young = linux(3);
    young.state.queued_at = Timestamp(LATE);
    young.state.watched_until = Timestamp(LATE);
    insert(&stores, &[slow, own, young, other]).await;
    let mut tx = begin(&stores).await;
    let limit = 10;
    let since = Timestamp(4_000);
    for (overdue, expected) in [
        (Overdue::Executing(since), vec![1, 2]),
        (Overdue::Executing(Timestamp(3_000)), vec![]),
        (Overdue::OwnTimeout(std::time::Duration::from_secs(1)), vec![2]),
        (Overdue::Queued(Vec::new(), since), vec![4]),
        (Overdue::Queued(vec!["apps".to_owned(), "libs".to_owned()], since), vec![4]),
        (Overdue::Queued(vec!["libs".to_owned()], since), vec![]),
        (Overdue::QueuedWith(requirement("macos").id(), since), vec![4]),
        (Overdue::QueuedWith(requirement("linux").id(), since), vec![]),
        (Overdue::Unwatched(Timestamp(6_000)), vec![4]),
    ] {
        let mut found = ids(&tx.lock_overdue(overdue.clone(), limit).await.unwrap());
        found.sort_unstable();
        assert_eq!(found, expected, "{overdue:?}");
    }
    assert_eq!(tx.lock_overdue(Overdue::Executing(since), 1).await.unwrap().len(), 1);
}

async fn old_jobs_go_with_their_operations(stores: Stores) {
    let (mut old, mut fresh) = (linux(1), linux(2));
    transition::fail(&mut old, ErrorCode::Internal, "x", Timestamp(2_000));
    transition::fail(&mut fresh, ErrorCode::Internal, "x", Timestamp(9_000));
    insert(&stores, &[old.clone(), fresh.clone(), linux(3)]).await;
    let mut tx = begin(&stores).await;
    tx.insert_operations(&[operation(11, &old), operation(12, &fresh)]).await.unwrap();
    assert_eq!(tx.prune(Timestamp(5_000), 10).await.unwrap(), 1);
    tx.commit().await.unwrap();
    let left = stores.store.jobs(&[old.id, fresh.id, linux(3).id]).await.unwrap();
    assert_eq!(left.len(), 2);
    let operations = [operation(11, &old).id, operation(12, &fresh).id];
    let left = stores.store.operations(&operations).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!((&left[0].0, &left[0].1), (&operation(12, &fresh), &fresh));
}

async fn operations_are_cancelled_and_deleted(stores: Stores) {
    let job = linux(1);
    insert(&stores, std::slice::from_ref(&job)).await;
    let (kept, gone) = (operation(11, &job), operation(12, &job));
    let mut tx = begin(&stores).await;
    tx.insert_operations(&[kept.clone(), gone.clone()]).await.unwrap();
    tx.insert_operations(std::slice::from_ref(&kept)).await.unwrap();
    assert_eq!(tx.jobs_of(&[gone.id, operation(13, &job).id]).await.unwrap(), [(gone.id, job.id)]);
    tx.cancel_operations(&[kept.id]).await.unwrap();
    tx.delete_operations(&[gone.id]).await.unwrap();
    let locked = tx.lock_operations(&[job.id]).await.unwrap();
    assert_eq!(locked.len(), 1);
    assert!(locked[0].cancelled && locked[0].id == kept.id);
    tx.commit().await.unwrap();
    let filter = filter::parse("").unwrap();
    let query = ListQuery { instance: "main".to_owned(), filter, after: Vec::new(), limit: 10 };
    assert_eq!(stores.store.list(&query).await.unwrap().len(), 1);
    let elsewhere = ListQuery { instance: "other".to_owned(), ..query };
    assert_eq!(stores.store.list(&elsewhere).await.unwrap(), []);
}
