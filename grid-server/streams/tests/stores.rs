//! What every store of this crate does, on each database.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use grid_core::{Clock, Digest, DigestFunction, Timestamp};
use grid_scheduler_sql::{Database, testing};
use grid_streams::{
    Asset, AssetKey, AssetKind, AssetStore, EventStore, Executed, ExecutedQuery, LogState, LogStreamStore,
    Provenance, QueryLimits, SqlAssetStore, SqlEventStore, SqlLogStreamStore, SqlProvenance, SqlUploadStore,
    StoredEvent, StreamsError, UploadStore, stream_name,
};

#[derive(Debug, Default)]
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

struct World {
    database: Database,
    clock: Arc<TestClock>,
    _folder: Option<tempfile::TempDir>,
}

async fn worlds() -> [World; 2] {
    let (sqlite, folder) = testing::sqlite().await;
    [
        World { database: sqlite, clock: Arc::default(), _folder: Some(folder) },
        World { database: testing::postgres().await, clock: Arc::default(), _folder: None },
    ]
}

#[tokio::test]
async fn uploads_grow_without_gaps_and_expire() {
    for world in worlds().await {
        let store = SqlUploadStore::new(world.database.clone(), world.clock.clone());
        let part = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert_eq!(store.committed("a").await.unwrap(), 0);
        store.append("a", 0, part("one")).await.unwrap();
        store.append("a", 3, part("three")).await.unwrap();
        for (offset, committed) in [(0, 8), (3, 8), (7, 8), (9, 8)] {
            let refused = store.append("a", offset, part("x")).await;
            assert!(
                matches!(refused, Err(StreamsError::Offset { committed: c, .. }) if c == committed),
                "{offset}"
            );
        }
        assert!(matches!(
            store.append("b", 1, part("x")).await,
            Err(StreamsError::Offset { committed: 0, .. })
        ));
        assert_eq!(store.part("a", 3).await.unwrap(), Some(part("three")));
        assert_eq!(store.part("a", 1).await.unwrap(), None);
        world.clock.0.store(100, Ordering::SeqCst);
        store.append("a", 8, part("x")).await.unwrap();
        store.append("old", 0, part("x")).await.unwrap();
        world.clock.0.store(200, Ordering::SeqCst);
        store.append("a", 9, part("y")).await.unwrap();
        assert_eq!(store.expire(Timestamp(150)).await.unwrap(), 1);
        assert_eq!((store.committed("a").await.unwrap(), store.committed("old").await.unwrap()), (10, 0));
        store.remove("a").await.unwrap();
        store.remove("a").await.unwrap();
        assert_eq!(store.committed("a").await.unwrap(), 0);
    }
}

#[tokio::test]
async fn logs_are_appended_read_and_finished() {
    for world in worlds().await {
        let store = SqlLogStreamStore::new(world.database.clone(), world.clock.clone(), 20);
        store.create("n", "token").await.unwrap();
        assert!(matches!(store.create("n", "other").await, Err(StreamsError::Exists(_))));
        let append = async |offset, text: &'static str, finish| {
            store.append("n", "token", offset, Bytes::from_static(text.as_bytes()), finish).await
        };
        assert_eq!(append(0, "hello ", false).await.unwrap(), 6);
        assert_eq!(append(6, "world", false).await.unwrap(), 11);
        assert!(matches!(append(6, "again", false).await, Err(StreamsError::Offset { committed: 11, .. })));
        assert!(matches!(append(11, "far too long", false).await, Err(StreamsError::Full { limit: 20, .. })));
        let wrong = store.append("n", "guess", 11, Bytes::from_static(b"x"), false).await;
        assert!(matches!(wrong, Err(StreamsError::WrongToken(_))));
        assert!(matches!(store.state("m", None).await, Err(StreamsError::NotFound(_))));
        assert_eq!(store.read("n", 0).await.unwrap(), "hello ");
        assert_eq!(store.read("n", 8).await.unwrap(), "rld");
        assert!(store.read("n", 11).await.unwrap().is_empty());
        assert_eq!(append(11, "", true).await.unwrap(), 11);
        assert!(matches!(append(11, "x", false).await, Err(StreamsError::Finished(_))));
        let state = store.state("n", Some("token")).await.unwrap();
        assert_eq!(state, LogState { committed: 11, finished: true, readers: 0 });
        world.clock.0.store(100, Ordering::SeqCst);
        store.add_reader("n").await.unwrap();
        assert_eq!(store.expire(Timestamp(100)).await.unwrap(), 0, "a reader keeps it alive");
        assert_eq!(store.expire(Timestamp(101)).await.unwrap(), 1);
        assert!(store.read("n", 0).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn whoever_waits_for_a_log_hears_of_it_on_each_replica() {
    for world in worlds().await {
        let writer = SqlLogStreamStore::new(world.database.clone(), world.clock.clone(), 100);
        writer.create("n", "t").await.unwrap();
        let seen = writer.state("n", None).await.unwrap();
        // Two stores over one PostgreSQL are two replicas; an SQLite file has one process.
        let reader = match &world.database {
            Database::Postgres(_) => SqlLogStreamStore::new(world.database.clone(), world.clock.clone(), 100),
            Database::Sqlite(_) => writer.clone(),
        };
        let waiting = tokio::spawn(async move { reader.changed("n", seen, Duration::from_secs(60)).await });
        writer.append("n", "t", 0, Bytes::from_static(b"x"), false).await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap().committed, 1);
        let now = writer.state("n", None).await.unwrap();
        assert_eq!(writer.changed("n", now, Duration::ZERO).await.unwrap(), now, "patience ends");
    }
}

#[tokio::test]
async fn events_are_kept_once_and_found_by_pattern() {
    for world in worlds().await {
        let limits = QueryLimits::default();
        let store = SqlEventStore::new(world.database.clone(), world.clock.clone(), limits);
        let event = |sequence_number, text: &'static str| StoredEvent {
            sequence_number,
            event: Bytes::from_static(text.as_bytes()),
        };
        store.append("build-1.3.x", b"id1", &[event(1, "a"), event(2, "b")]).await.unwrap();
        store.append("build-1.3.x", b"id1", &[event(2, "changed"), event(3, "c")]).await.unwrap();
        world.clock.0.store(100, Ordering::SeqCst);
        store.append("build-2.3.y", b"id2", &[event(1, "z")]).await.unwrap();
        let found = store.query(r"^build-1\.").await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].stream_id, "id1");
        assert_eq!(found[0].events, [event(1, "a"), event(2, "b"), event(3, "c")]);
        assert_eq!(store.query("build").await.unwrap().len(), 2);
        assert_eq!(
            (store.size("build-1.3.x").await.unwrap(), store.size("none").await.unwrap()),
            (3 * 17, 0)
        );
        assert!(store.has_before("build-1.3.x", 2).await.unwrap());
        assert!(!store.has_before("build-1.3.x", 1).await.unwrap());
        assert!(!store.has_before("none", i64::MAX).await.unwrap());
        assert!(store.query("nothing").await.unwrap().is_empty());
        assert!(matches!(store.query("(").await, Err(StreamsError::Pattern(_))));
        let many: Vec<_> = (10..1_600).map(|n| event(n, "x")).collect();
        store.append("build-2.3.y", b"id2", &many).await.unwrap();
        assert_eq!(store.query("build-2").await.unwrap()[0].events.len(), 1_591);
        assert_eq!(store.expire(Timestamp(50)).await.unwrap(), 1);
        assert!(store.query("build-1").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_query_that_would_cost_too_much_says_so() {
    for world in worlds().await {
        let limited = |answer_bytes, scanned| {
            let limits = QueryLimits { answer_bytes, scanned };
            SqlEventStore::new(world.database.clone(), world.clock.clone(), limits)
        };
        let store = limited(1 << 20, 10);
        let event = Bytes::from_static(&[7; 5_000]);
        for build in ["one", "two", "three"] {
            let events: Vec<_> =
                (1..=3).map(|n| StoredEvent { sequence_number: n, event: event.clone() }).collect();
            store.append(&stream_name(build, 3, "i"), b"id", &events).await.unwrap();
        }
        assert_eq!(store.query("").await.unwrap().len(), 3);
        assert!(matches!(limited(40_000, 10).query("").await, Err(StreamsError::TooMany(_))));
        assert_eq!(limited(40_000, 10).query("^t.*").await.unwrap().len(), 2);
        assert!(matches!(limited(1 << 20, 2).query("two").await, Err(StreamsError::TooMany(_))));
        assert_eq!(limited(1 << 20, 2).query("^two\\.3").await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn assets_are_found_by_uri_and_qualifiers_in_any_order() {
    for world in worlds().await {
        let store = SqlAssetStore::new(world.database.clone(), world.clock.clone());
        let key = |kind, qualifiers: &[(&str, &str)]| AssetKey {
            instance: "main".into(),
            kind,
            uri: "https://example.org/a".into(),
            qualifiers: qualifiers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
        };
        let needs = vec![
            (AssetKind::Blob, Digest::of(DigestFunction::Blake3, b"a log")),
            (AssetKind::Directory, Digest::of(DigestFunction::Sha256, b"a tree")),
        ];
        let digest = Digest::of(DigestFunction::Blake3, b"content");
        let first = Asset { digest, needs, pushed_at: Timestamp(7), expires_at: None };
        let blob = key(AssetKind::Blob, &[("a", "1"), ("b", "2")]);
        store.put(&blob, &first).await.unwrap();
        let found = store.get(&key(AssetKind::Blob, &[("b", "2"), ("a", "1")])).await.unwrap();
        assert_eq!(found, Some(first));
        assert_eq!(store.get(&key(AssetKind::Directory, &[("a", "1"), ("b", "2")])).await.unwrap(), None);
        assert_eq!(store.get(&key(AssetKind::Blob, &[("a", "1")])).await.unwrap(), None);
        let other = AssetKey { instance: "other".into(), ..blob.clone() };
        assert_eq!(store.get(&other).await.unwrap(), None, "instances share nothing");
        let digest = Digest::of(DigestFunction::Sha256, b"later");
        let later =
            Asset { digest, needs: Vec::new(), pushed_at: Timestamp(8), expires_at: Some(Timestamp(50)) };
        store.put(&blob, &later).await.unwrap();
        assert_eq!(store.get(&blob).await.unwrap(), Some(later));
        world.clock.0.store(50, Ordering::SeqCst);
        assert_eq!(store.get(&blob).await.unwrap(), None, "it has expired");
        assert_eq!(store.expire(Timestamp(0)).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn assets_that_are_asked_for_stay() {
    const HOUR: i64 = 60 * 60 * 1_000_000;
    for world in worlds().await {
        let store = SqlAssetStore::new(world.database.clone(), world.clock.clone());
        let key = |uri: &str| AssetKey {
            instance: String::new(),
            kind: AssetKind::Blob,
            uri: uri.into(),
            qualifiers: Vec::new(),
        };
        let digest = Digest::of(DigestFunction::Sha256, b"x");
        let asset = Asset { digest, needs: Vec::new(), pushed_at: Timestamp(0), expires_at: None };
        for uri in ["urn:used", "urn:forgotten"] {
            store.put(&key(uri), &asset).await.unwrap();
        }
        world.clock.0.store(10 * HOUR, Ordering::SeqCst);
        assert!(store.get(&key("urn:used")).await.unwrap().is_some());
        assert_eq!(store.expire(Timestamp(5 * HOUR)).await.unwrap(), 1);
        assert!(store.get(&key("urn:used")).await.unwrap().is_some());
        assert_eq!(store.get(&key("urn:forgotten")).await.unwrap(), None);
    }
}

#[tokio::test]
async fn what_a_worker_executed_is_found_until_it_is_forgotten() {
    for world in worlds().await {
        let store = SqlProvenance::new(world.database.clone());
        let executed = |worker: &str, action: &str, at| Executed {
            instance: "main".into(),
            action: Digest::of(DigestFunction::Blake3, action.as_bytes()),
            worker: worker.into(),
            subject: "dev".into(),
            executed_at: Timestamp(at),
        };
        let all = [
            executed("w1", "a", 10),
            executed("w1", "b", 20),
            executed("w2", "a", 30),
            executed("w1", "c", 40),
            executed("w1", "a", 50),
        ];
        // At once: those of one worker and action come to one record, of the last that came.
        let written = all.iter().map(|one| store.record(one.clone()));
        for written in futures::future::join_all(written).await {
            written.unwrap();
        }
        let query = |since, until, skip| ExecutedQuery {
            worker: "w1".into(),
            since: Timestamp(since),
            until: Timestamp(until),
            skip,
            limit: 2,
        };
        let found = async |query: ExecutedQuery| store.of_worker(&query).await.unwrap();
        assert_eq!(found(query(0, 100, 0)).await, [all[1].clone(), all[3].clone()]);
        assert_eq!(found(query(0, 100, 2)).await, [all[4].clone()]);
        assert_eq!(found(query(21, 49, 0)).await, [all[3].clone()]);
        // What was executed anew since it was found is not forgotten.
        store.forget(&[all[0].clone(), all[3].clone()]).await.unwrap();
        assert_eq!(found(query(0, 100, 0)).await, [all[1].clone(), all[4].clone()]);
        assert_eq!(store.expire(Timestamp(50)).await.unwrap(), 2, "w2's too");
        assert_eq!(found(query(0, 100, 0)).await, [all[4].clone()]);
    }
}
