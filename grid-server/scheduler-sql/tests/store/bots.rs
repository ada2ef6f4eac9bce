//! Sessions, declared pools and drains.

use grid_core::Timestamp;
use grid_scheduler::fleet::{Declaration, Drain, DrainReason, DrainTarget, Pool};
use grid_scheduler::session::Session;

use crate::{LATE, Stores, begin, linux, on_all, session};

on_all!(
    sessions_come_back_as_they_were_saved,
    sessions_that_ran_out_are_found,
    drains_find_the_bots_that_they_cover,
    declarations_replace_their_owners_only,
    a_pool_is_woken_later_and_later,
);

fn names(sessions: &[Session]) -> Vec<&str> {
    let mut names: Vec<&str> = sessions.iter().map(|session| session.bot_id.as_str()).collect();
    names.sort_unstable();
    names
}

async fn save(stores: &Stores, sessions: &[Session]) {
    let mut tx = begin(stores).await;
    tx.save_sessions(sessions).await.unwrap();
    tx.commit().await.unwrap();
}

async fn sessions_come_back_as_they_were_saved(stores: Stores) {
    let mut bot = session(1, "b", LATE);
    save(&stores, &[bot.clone(), session(2, "c", LATE)]).await;
    bot.drain_until = Some(Timestamp(3));
    bot.idle_since = Some(Timestamp(4));
    bot.faults = 2;
    save(&stores, std::slice::from_ref(&bot)).await;
    let mut tx = begin(&stores).await;
    assert_eq!(tx.lock_sessions(&[bot.id, linux_id()]).await.unwrap(), [bot.clone()]);
    assert_eq!(tx.lock_bot("main", "b").await.unwrap(), [bot.clone()]);
    assert_eq!(tx.lock_bot("other", "b").await.unwrap(), []);
    tx.delete_sessions(&[bot.id]).await.unwrap();
    tx.commit().await.unwrap();
    let fleet = stores.other.fleet().await.unwrap();
    assert_eq!(fleet.bots, [(session(2, "c", LATE), 0)]);
}

fn linux_id() -> grid_scheduler::ids::SessionId {
    grid_scheduler::ids::SessionId(linux(77).id.0)
}

async fn sessions_that_ran_out_are_found(stores: Stores) {
    save(&stores, &[session(1, "gone", 5), session(2, "gone too", 6), session(3, "here", LATE)]).await;
    let mut tx = begin(&stores).await;
    assert_eq!(names(&tx.lock_expired(10).await.unwrap()), ["gone", "gone too"]);
    assert_eq!(tx.lock_expired(1).await.unwrap().len(), 1);
}

fn drain(target: DrainTarget, deadline: i64) -> Drain {
    let reason = DrainReason::SpotNotice;
    Drain { target, reason, requested_at: Timestamp(1), deadline: Timestamp(deadline), returned: 0 }
}

async fn drains_find_the_bots_that_they_cover(stores: Stores) {
    let mut stranger = session(3, "s", LATE);
    stranger.worker_pool = String::new();
    save(&stores, &[session(1, "a", LATE), session(2, "b", LATE), stranger]).await;
    let bot = DrainTarget::Bot("a".to_owned());
    let pool = DrainTarget::Pool("builds/linux".to_owned());
    let node = DrainTarget::Node("node-3".to_owned());
    let mut tx = begin(&stores).await;
    tx.lock_fleet().await.unwrap();
    let covered = |targets: &[DrainTarget]| targets.to_vec();
    assert_eq!(names(&tx.lock_covered(&covered(std::slice::from_ref(&bot))).await.unwrap()), ["a"]);
    assert_eq!(names(&tx.lock_covered(&[pool.clone(), bot.clone()]).await.unwrap()), ["a", "b"]);
    assert_eq!(names(&tx.lock_covered(std::slice::from_ref(&node)).await.unwrap()), ["s"]);
    tx.save_drains(&[drain(bot.clone(), 9), drain(node.clone(), 9)]).await.unwrap();
    let moved = Drain { returned: 4, ..drain(node.clone(), 8) };
    tx.save_drains(std::slice::from_ref(&moved)).await.unwrap();
    assert_eq!(tx.drains().await.unwrap(), [drain(bot.clone(), 9), moved.clone()]);
    tx.delete_drains(&[bot, pool]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(stores.other.fleet().await.unwrap().drains, [moved]);
}

async fn declarations_replace_their_owners_only(stores: Stores) {
    let declare = |owner: &str, revision, pools: &[&str]| Declaration {
        owner: owner.to_owned(),
        revision,
        declared_at: Timestamp(5),
        pools: pools.iter().map(|name| Pool { name: (*name).to_owned(), ..Pool::default() }).collect(),
    };
    let mut tx = begin(&stores).await;
    tx.save_declaration(&declare("a", 1, &["n/x", "n/y"])).await.unwrap();
    tx.save_declaration(&declare("b", 1, &["n/z"])).await.unwrap();
    tx.save_declaration(&declare("a", 2, &["n/y"])).await.unwrap();
    assert_eq!(tx.declarations().await.unwrap(), [declare("a", 2, &["n/y"]), declare("b", 1, &["n/z"])]);
    tx.commit().await.unwrap();
    assert_eq!(stores.store.fleet().await.unwrap().declarations.len(), 2);
}

async fn a_pool_is_woken_later_and_later(stores: Stores) {
    let mut before = 0;
    for _ in 0..2 {
        let mut tx = begin(&stores).await;
        tx.wake_pools(&["n/x".to_owned()]).await.unwrap();
        tx.commit().await.unwrap();
        let now = stores.store.fleet().await.unwrap().wakeups["n/x"];
        assert!(now >= before && now > 0);
        before = now;
    }
}
