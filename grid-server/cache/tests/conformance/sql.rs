//! `!sql-action-cache` on both databases: expiry, bounds, and caches that share a database.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use grid_cache::ActionCache;
use grid_cache::backends::sql::{Sql, SqlOptions};
use grid_cache::conformance::{Subject, action, result};
use grid_cas::sql::SqlPool;
use grid_core::{Clock, Timestamp};
use grid_scheduler_sql::{Database, testing};

const HOUR: Duration = Duration::from_secs(3600);

/// A clock that stands still until it is moved.
#[derive(Debug)]
struct Hands(AtomicI64);

impl Hands {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(1_700_000_000_000_000)))
    }

    fn forward(&self, time: Duration) {
        self.0.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

fn pool(database: Database) -> SqlPool {
    match database {
        Database::Postgres(pool) => SqlPool::Postgres(pool),
        Database::Sqlite(pool) => SqlPool::Sqlite(pool),
    }
}

async fn pools() -> (Vec<SqlPool>, tempfile::TempDir) {
    let (sqlite, folder) = testing::sqlite().await;
    (vec![pool(sqlite), pool(testing::postgres().await)], folder)
}

fn options() -> SqlOptions {
    SqlOptions {
        salt: String::new(),
        max_entries: 1_000_000,
        expire_unused_after: None,
        name: "results".into(),
    }
}

pub(crate) async fn sqlite() -> Subject {
    let (database, folder) = testing::sqlite().await;
    Subject::new(Arc::new(Sql::new(pool(database), Hands::new(), options()))).keeping(folder)
}

pub(crate) async fn postgres() -> Subject {
    let database = testing::postgres().await;
    Subject::new(Arc::new(Sql::new(pool(database), Hands::new(), options())))
}

async fn kept(cache: &Sql, actions: std::ops::Range<u64>) -> Vec<u64> {
    let mut kept = Vec::new();
    for number in actions {
        if cache.get(&action(number)).await.unwrap().is_some() {
            kept.push(number);
        }
    }
    kept
}

#[tokio::test]
async fn the_least_recently_used_leave_when_there_are_too_many() {
    let (pools, _folder) = pools().await;
    for pool in pools {
        let clock = Hands::new();
        let cache = Sql::new(pool, clock.clone(), SqlOptions { max_entries: 3, ..options() });
        for number in 0..5 {
            clock.forward(2 * HOUR);
            cache.update(&action(number), &result(1)).await.unwrap();
        }
        // A write is no new entry; a use makes an entry young again.
        cache.update(&action(4), &result(2)).await.unwrap();
        clock.forward(2 * HOUR);
        assert!(cache.get(&action(0)).await.unwrap().is_some());
        cache.keep_bounds().await.unwrap();
        assert_eq!(kept(&cache, 0..5).await, [0, 3, 4]);
        cache.delete(&action(3)).await.unwrap();
        cache.update(&action(5), &result(1)).await.unwrap();
        cache.keep_bounds().await.unwrap();
        assert_eq!(kept(&cache, 0..6).await, [0, 4, 5], "a deletion makes room for one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_trim_at_once_remove_no_more_than_one_would() {
    let (pools, _folder) = pools().await;
    for pool in pools {
        let clock = Hands::new();
        let few = SqlOptions { max_entries: 50, ..options() };
        let server = |options| Sql::new(pool.clone(), clock.clone(), options);
        let writer = server(options());
        for number in 0..80 {
            writer.update(&action(number), &result(1)).await.unwrap();
        }
        let servers: Vec<Sql> = (0..6).map(|_| server(few.clone())).collect();
        let kept_bounds = futures::future::join_all(servers.iter().map(Sql::keep_bounds)).await;
        assert!(kept_bounds.iter().all(Result::is_ok), "{kept_bounds:?}");
        assert_eq!(kept(&writer, 0..80).await.len(), 50);
    }
}

#[tokio::test]
async fn bounds_are_kept_by_those_who_write() {
    let (pools, _folder) = pools().await;
    for pool in pools {
        let cache = Sql::new(pool, Hands::new(), SqlOptions { max_entries: 10, ..options() });
        for number in 0..400 {
            cache.update(&action(number), &result(1)).await.unwrap();
        }
        let few = async {
            while kept(&cache, 0..400).await.len() > 10 + 100 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), few).await.unwrap();
    }
}

#[tokio::test]
async fn an_unused_result_expires_and_makes_room_for_a_first_one() {
    let (pools, _folder) = pools().await;
    for pool in pools {
        let clock = Hands::new();
        let options = SqlOptions { expire_unused_after: Some(24 * HOUR), ..options() };
        let cache = Sql::new(pool, clock.clone(), options);
        cache.insert(&action(1), &result(1)).await.unwrap();
        cache.insert(&action(2), &result(2)).await.unwrap();
        for _ in 0..3 {
            clock.forward(20 * HOUR);
            assert!(cache.get(&action(1)).await.unwrap().is_some(), "it is used");
        }
        assert!(cache.get(&action(2)).await.unwrap().is_none(), "nobody asked for it in 60 hours");
        assert!(cache.insert(&action(1), &result(9)).await.is_err());
        cache.insert(&action(2), &result(9)).await.unwrap();
        assert_eq!(cache.get(&action(2)).await.unwrap(), Some(result(9)));
        clock.forward(48 * HOUR);
        cache.keep_bounds().await.unwrap();
        cache.insert(&action(1), &result(3)).await.unwrap();
        assert_eq!(kept(&cache, 0..3).await, [1]);
    }
}

#[tokio::test]
async fn salts_keep_users_of_one_database_apart_and_replicas_share() {
    let (pools, _folder) = pools().await;
    for pool in pools {
        let with = |salt: &str| {
            Sql::new(pool.clone(), Hands::new(), SqlOptions { salt: salt.to_owned(), ..options() })
        };
        let (ours, replica, theirs) = (with("a"), with("a"), with("b"));
        ours.insert(&action(1), &result(1)).await.unwrap();
        assert_eq!(replica.get(&action(1)).await.unwrap(), Some(result(1)));
        assert!(replica.insert(&action(1), &result(2)).await.is_err());
        assert_eq!(theirs.get(&action(1)).await.unwrap(), None);
        theirs.insert(&action(1), &result(2)).await.unwrap();
    }
}
