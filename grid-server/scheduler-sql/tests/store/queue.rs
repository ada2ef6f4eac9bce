//! The queue's order, its turns, what is told of it, and its news.

use futures::StreamExt;
use grid_core::Timestamp;
use grid_scheduler::history::Usage;
use grid_scheduler::job::{Job, Stage};
use grid_scheduler::store::{Event, FlowKey, JobPage, Order, Want};
use grid_scheduler::transition;

use crate::{LATE, Stores, begin, ids, insert, linux, on_all, operation, requirement, session};

on_all!(
    jobs_are_taken_by_priority_turn_and_age,
    flows_take_turns_and_start_at_their_clock,
    flows_that_are_over_are_forgotten_and_live_requirements_are_not,
    the_queue_is_counted,
    jobs_are_paged_by_age,
    news_is_told_to_others_when_it_is_committed,
    a_watch_is_only_ever_extended,
);

fn placed(number: u128, priority: i32, turn: i64, queued_at: i64) -> Job {
    let mut job = linux(number);
    (job.state.priority, job.state.turn, job.state.queued_at) = (priority, turn, Timestamp(queued_at));
    job
}

async fn jobs_are_taken_by_priority_turn_and_age(stores: Stores) {
    let mut other = placed(6, 0, 0, 0);
    other.spec.requirement = requirement("macos").id();
    let jobs =
        [placed(1, 0, 5, 9), placed(2, 0, 5, 8), placed(3, -1, 9, 9), placed(4, 0, 4, 9), placed(5, 1, 0, 0)];
    insert(&stores, &jobs).await;
    insert(&stores, std::slice::from_ref(&other)).await;
    let mut tx = begin(&stores).await;
    let (linux, macos) = (jobs[0].spec.requirement, other.spec.requirement);
    assert_eq!(ids(&tx.lock_queued(&[Want::new(linux, 10)], Order::Turn).await.unwrap()), [3, 4, 2, 1, 5]);
    assert_eq!(
        ids(&tx.lock_queued(&[Want::new(linux, 2), Want::new(macos, 2)], Order::Turn).await.unwrap()),
        [3, 6, 4]
    );
}

fn flow(flow: &str) -> FlowKey {
    FlowKey { pool: "main".to_owned(), priority: 0, flow: flow.to_owned() }
}

async fn flows_take_turns_and_start_at_their_clock(stores: Stores) {
    let mut tx = begin(&stores).await;
    assert_eq!(tx.take_turns(&[(flow("=a"), 3), (flow("=b"), 1)], 10).await.unwrap(), [30, 10]);
    assert_eq!(tx.take_turns(&[(flow("=a"), 1)], 10).await.unwrap(), [40]);
    tx.serve_turns(&[(flow(""), 100)]).await.unwrap();
    tx.serve_turns(&[(flow(""), 50)]).await.unwrap();
    assert_eq!(tx.take_turns(&[(flow("=b"), 2)], 10).await.unwrap(), [120], "a clock never goes back");
    assert_eq!(tx.take_turns(&[(flow("=new"), 1)], 10).await.unwrap(), [110]);
}

async fn flows_that_are_over_are_forgotten_and_live_requirements_are_not(stores: Stores) {
    let mut waiting = linux(1);
    waiting.spec.requirement = requirement("linux").id();
    insert(&stores, &[waiting]).await;
    let mut tx = begin(&stores).await;
    tx.intern(&[requirement("linux"), requirement("macos")]).await.unwrap();
    tx.take_turns(&[(flow("=ahead"), 9), (flow("=behind"), 1)], 10).await.unwrap();
    tx.serve_turns(&[(flow(""), 50)]).await.unwrap();
    tx.forget(Timestamp(LATE)).await.unwrap();
    assert_eq!(tx.take_turns(&[(flow("=ahead"), 1), (flow("=behind"), 1)], 10).await.unwrap(), [100, 60]);
    tx.commit().await.unwrap();
    let both = [requirement("linux").id(), requirement("macos").id()];
    assert_eq!(stores.store.requirements(&both).await.unwrap(), [requirement("linux")]);
    let mut tx = begin(&stores).await;
    tx.intern(&[requirement("macos")]).await.unwrap();
    tx.forget(Timestamp(0)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(stores.store.requirements(&both).await.unwrap().len(), 2, "it was asked for since");
}

async fn the_queue_is_counted(stores: Stores) {
    let mut runs = placed(4, 0, 0, 1);
    transition::assign(&mut runs, &session(9, "b", LATE), "", Timestamp(3_000)).unwrap();
    let last = placed(3, 0, 2, 5);
    insert(&stores, &[placed(1, 0, 1, 7), placed(2, 1, 0, 3), last.clone(), placed(4, 0, 0, 1)]).await;
    let mut tx = begin(&stores).await;
    tx.save_jobs(&[runs]).await.unwrap();
    tx.commit().await.unwrap();
    let id = last.spec.requirement;
    assert_eq!(stores.store.queued().await.unwrap(), [id]);
    let depths = stores.store.depths().await.unwrap();
    let depth = depths[0];
    assert_eq!((depths.len(), depth.queued, depth.executing), (1, 3, 1));
    assert_eq!(depth.oldest, Some(Timestamp(3)));
    assert_eq!(stores.store.ahead(&last, &[id]).await.unwrap(), 1);
    assert_eq!(stores.store.ahead(&last, &[requirement("macos").id()]).await.unwrap(), 0);
    assert_eq!(stores.store.labelled("linux", 10).await.unwrap(), 3);
    assert_eq!(stores.store.labelled("linux", 2).await.unwrap(), 2);
    assert_eq!(stores.store.labelled("macos", 2).await.unwrap(), 0);
    let recent = stores.store.recent(Timestamp(0), 10).await.unwrap();
    assert_eq!((recent.len(), recent[0].worker_pool.as_str()), (1, "builds/linux"));
    assert_eq!((recent[0].queued_at, recent[0].started_at), (Timestamp(1), Timestamp(3_000)));
}

async fn jobs_are_paged_by_age(stores: Stores) {
    let mut over = placed(4, 0, 0, 4);
    transition::finish(&mut over, bytes::Bytes::new(), Usage::default(), Timestamp(9));
    let first = placed(2, 0, 0, 1);
    insert(&stores, &[placed(1, 0, 0, 2), first.clone(), placed(3, 0, 0, 2), over]).await;
    let mut tx = begin(&stores).await;
    tx.insert_operations(&[operation(11, &first), operation(12, &first)]).await.unwrap();
    tx.commit().await.unwrap();
    let page = JobPage { stages: vec![Stage::Queued], limit: 2, ..JobPage::default() };
    let found = stores.store.page(&page).await.unwrap();
    assert_eq!(ids(found.iter().map(|(job, _)| job)), [2, 1]);
    assert_eq!((found[0].1.len(), found[1].1.len()), (2, 0));
    let rest = JobPage { after: Some((Timestamp(2), found[1].0.id)), ..page.clone() };
    assert_eq!(ids(stores.store.page(&rest).await.unwrap().iter().map(|(job, _)| job)), [3]);
    let old = JobPage { until: Some(Timestamp(1)), ..page };
    assert_eq!(ids(stores.store.page(&old).await.unwrap().iter().map(|(job, _)| job)), [2]);
}

async fn news_is_told_to_others_when_it_is_committed(stores: Stores) {
    let mut heard = stores.other.events();
    // A store over a network says that it listens; what was told before is not heard.
    let mut listening = tokio::spawn(async move {
        loop {
            match heard.next().await {
                Some(Event::Resync) => {}
                Some(event) => return event,
                None => panic!("news has no end"),
            }
        }
    });
    let lost = Event::Sessions(vec![session(1, "b", LATE).id]);
    let told = Event::Jobs(vec![linux(1).id]);
    loop {
        let mut undone = begin(&stores).await;
        undone.notify(lost.clone());
        drop(undone);
        let mut tx = begin(&stores).await;
        tx.notify(told.clone());
        tx.commit().await.unwrap();
        let pause = std::time::Duration::from_millis(50);
        if let Ok(heard) = tokio::time::timeout(pause, &mut listening).await {
            assert_eq!(heard.unwrap(), told);
            return;
        }
    }
}

async fn a_watch_is_only_ever_extended(stores: Stores) {
    let job = linux(1);
    insert(&stores, std::slice::from_ref(&job)).await;
    for (until, expected) in [(9_000, 9_000), (6_000, 9_000)] {
        let mut tx = begin(&stores).await;
        tx.extend_watch(&[job.id], Timestamp(until)).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = begin(&stores).await;
        let found = tx.lock_overdue(grid_scheduler::store::Overdue::Unwatched(Timestamp(expected)), 1);
        assert_eq!(found.await.unwrap(), [], "watched until {expected}");
        let found = tx.lock_overdue(grid_scheduler::store::Overdue::Unwatched(Timestamp(expected + 1)), 1);
        assert_eq!(found.await.unwrap().len(), 1);
    }
}
