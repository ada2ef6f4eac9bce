//! Quotas: how they stand, and the looks at the queue that heed them.

use grid_core::Timestamp;
use grid_scheduler::job::Job;
use grid_scheduler::quota::{Quota, Share};
use grid_scheduler::store::{Order, Want};
use grid_scheduler::transition;

use crate::{LATE, Stores, begin, ids, insert, linux, on_all, session};

on_all!(
    a_quota_stands_as_its_leases_do,
    a_look_at_the_queue_heeds_instances,
    the_oldest_come_first_where_age_counts,
    what_is_lent_is_found_by_who_loses_least,
);

fn of(number: u128, instance: &str, priority: i32, queued_at: i64) -> Job {
    let mut job = linux(number);
    instance.clone_into(&mut job.spec.instance);
    (job.state.priority, job.state.queued_at) = (priority, Timestamp(queued_at));
    job
}

fn quota(instance: &str, min: u32, max: u32) -> Quota {
    Quota { cohort: "c".to_owned(), instance: instance.to_owned(), min, max }
}

/// Inserts jobs and gives each to a bot of the cohort.
async fn run(stores: &Stores, jobs: &mut [Job]) {
    insert(stores, jobs).await;
    for job in jobs.iter_mut() {
        transition::assign(job, &session(9, "b", LATE), "c", Timestamp(3_000)).unwrap();
    }
    let mut tx = begin(stores).await;
    tx.save_jobs(jobs).await.unwrap();
    tx.commit().await.unwrap();
}

async fn a_quota_stands_as_its_leases_do(stores: Stores) {
    let mut tx = begin(&stores).await;
    tx.save_quota(&quota("a", 9, 9)).await.unwrap();
    tx.save_quota(&quota("a", 1, 3)).await.unwrap();
    tx.save_quota(&quota("", 0, 2)).await.unwrap();
    tx.save_quota(&Quota { cohort: "other".to_owned(), ..quota("a", 0, 1) }).await.unwrap();
    let now = tx.now();
    tx.note_evictions(&[("c".to_owned(), "a".to_owned())]).await.unwrap();
    tx.commit().await.unwrap();
    let mut jobs = [of(1, "a", 0, 1), of(2, "a", 0, 2), of(3, "b", 0, 3)];
    run(&stores, &mut jobs).await;

    let shares = stores.other.shares(now.before(std::time::Duration::from_secs(1))).await.unwrap();
    let stands = |s: &Share| (s.quota.cohort.clone(), s.quota.instance.clone(), s.used, s.evicted);
    let text =
        |cohort: &str, instance: &str, used, evicted| (cohort.to_owned(), instance.to_owned(), used, evicted);
    assert_eq!(
        shares.iter().map(stands).collect::<Vec<_>>(),
        [text("c", "", 0, 0), text("c", "a", 2, 1), text("other", "a", 0, 0)]
    );
    assert_eq!((shares[1].quota.min, shares[1].quota.max), (1, 3), "the newest word counts");

    let mut tx = begin(&stores).await;
    let locked = tx.lock_shares(&["c".to_owned()], Timestamp(LATE)).await.unwrap();
    assert_eq!(locked.iter().map(|s| (s.used, s.evicted)).collect::<Vec<_>>(), [(0, 0), (2, 0)]);
    assert!(tx.delete_quota("c", "a").await.unwrap());
    assert!(!tx.delete_quota("c", "a").await.unwrap());
    transition::finish(&mut jobs[0], bytes::Bytes::new(), grid_scheduler::history::Usage::default(), now);
    tx.save_jobs(&jobs[..1]).await.unwrap();
    tx.save_quota(&quota("a", 1, 3)).await.unwrap();
    tx.commit().await.unwrap();
    let shares = stores.store.shares(now).await.unwrap();
    assert_eq!(shares[1].used, 1, "a lease that ended counts no more");
}

async fn a_look_at_the_queue_heeds_instances(stores: Stores) {
    insert(&stores, &[of(1, "a", 0, 1), of(2, "b", 0, 2), of(3, "", 0, 3), of(4, "b", 0, 4)]).await;
    let linux = linux(1).spec.requirement;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut tx = begin(&stores).await;
    for (only, except, expected) in [
        (None, vec![], vec![1, 2, 3]),
        (None, names(&["a"]), vec![2, 3, 4]),
        (None, names(&["", "a"]), vec![2, 4]),
        (Some(names(&["b"])), vec![], vec![2, 4]),
        (Some(names(&["", "b"])), names(&["b"]), vec![3]),
    ] {
        let want = Want { only, except, ..Want::new(linux, 3) };
        let found = tx.lock_queued(std::slice::from_ref(&want), Order::Turn).await.unwrap();
        assert_eq!(ids(&found), expected, "{want:?}");
    }
}

async fn the_oldest_come_first_where_age_counts(stores: Stores) {
    insert(&stores, &[of(1, "a", 0, 9), of(2, "a", 5, 1), of(3, "a", -5, 8)]).await;
    let want = [Want::new(linux(1).spec.requirement, 2)];
    let mut tx = begin(&stores).await;
    assert_eq!(ids(&tx.lock_queued(&want, Order::Age).await.unwrap()), [2, 3]);
    assert_eq!(ids(&tx.lock_queued(&want, Order::Turn).await.unwrap()), [3, 1]);
}

async fn what_is_lent_is_found_by_who_loses_least(stores: Stores) {
    let mut jobs = [of(1, "a", 0, 1), of(2, "a", 7, 2), of(3, "a", 7, 5), of(4, "b", 9, 9)];
    run(&stores, &mut jobs).await;
    let linux = linux(1).spec.requirement;
    let mut tx = begin(&stores).await;
    let lenders = ["a".to_owned()];
    assert_eq!(ids(&tx.lock_lent("c", &lenders, linux, 2).await.unwrap()), [3, 2]);
    assert!(tx.lock_lent("other", &lenders, linux, 2).await.unwrap().is_empty());
}
