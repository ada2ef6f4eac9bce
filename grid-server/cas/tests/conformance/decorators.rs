//! What single decorators promise beyond the suite.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use grid_cas::conformance::{Subject, blob, pieces};
use grid_cas::decorators::metrics::Metrics;
use grid_cas::decorators::replicated::{Replicated, ReplicatedOptions};
use grid_cas::decorators::sharded::{Rendezvous, Sharded};
use grid_cas::decorators::size_differentiated::SizeDifferentiated;
use grid_cas::decorators::with_cache::{Journal, WithCache, WithCacheOptions};
use grid_cas::index::redis::RedisIndex;
use grid_cas::index::timed::Timed;
use grid_cas::index::{BlobIndex as _, Claim, NewBlob};
use grid_cas::observer::{IndexCall, Method, StoreEvent, StoreObserver, unobserved};
use grid_cas::redis_client::RedisConnection;
use grid_cas::{BlobStore, ByteRange, ByteStream, SharedStore, StoreError};
use grid_core::{Clock as _, Digest, DigestFunction, SystemClock};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::redis_server;
use super::trees::*;

#[derive(Debug, Default)]
struct Notes(Mutex<Vec<StoreEvent>>);

impl StoreObserver for Notes {
    fn event(&self, _: &'static str, event: StoreEvent) {
        self.0.lock().push(event);
    }
}

async fn has(store: &SharedStore, digest: &Digest) -> bool {
    store.find_missing(&[*digest]).await.unwrap().is_empty()
}

#[test]
fn shards_are_those_of_buildgrid() {
    // Computed with the Python package mmh3, which BuildGrid uses.
    let route = Rendezvous::new(["a", "b", "shard-2"]).unwrap();
    let places =
        (0..6_u8).map(|n| route.shard(&Digest::of(DigestFunction::Sha256, n.to_string().as_bytes())));
    assert_eq!(places.collect::<Vec<_>>(), [0, 0, 0, 0, 1, 1]);
    let turned = Rendezvous::new(["shard-2", "b", "a"]).unwrap();
    assert_eq!(turned.shard(&Digest::of(DigestFunction::Sha256, b"0")), 2);
}

#[test]
fn shards_need_names_of_their_own() {
    assert!(matches!(Sharded::new(Vec::new()), Err(StoreError::Refused { .. })));
    let twice = vec![("a".to_owned(), lru(1)), ("a".to_owned(), lru(1))];
    assert!(Sharded::new(twice).unwrap_err().to_string().contains("\"a\""));
}

#[tokio::test]
async fn a_blob_of_just_the_maximum_goes_to_the_next_store() {
    let (small, middle, large) = (lru(ROOM), lru(ROOM), lru(ROOM));
    let store = SizeDifferentiated::new(vec![(200, middle.clone()), (100, small.clone())], large.clone());
    for (size, place) in [(99, &small), (100, &middle), (199, &middle), (200, &large)] {
        let (digest, bytes) = blob(size as u64, size);
        store.write(&digest, pieces(&bytes, 10)).await.unwrap();
        assert!(has(place, &digest).await, "{size}");
    }
}

#[tokio::test]
async fn reading_fills_the_cache_and_existence_asks_the_fallback() {
    let (cache, fallback) = (lru(ROOM), lru(ROOM));
    let subject = Subject::new(with_cache(cache.clone(), fallback.clone()));
    let ((a, a_bytes), (b, b_bytes)) = (blob(1, 1_000_000), blob(2, 1_000));
    for (digest, bytes) in [(&a, &a_bytes), (&b, &b_bytes)] {
        fallback.write(digest, pieces(bytes, 10_000)).await.unwrap();
    }
    assert_eq!(subject.store.read_batch(&[b]).await.remove(0).unwrap(), b_bytes);
    assert!(has(&cache, &b).await);
    assert_eq!(subject.get_all(&a).await.unwrap(), a_bytes);
    let (only_cached, bytes) = blob(3, 10);
    cache.write(&only_cached, pieces(&bytes, 10)).await.unwrap();
    assert!(!subject.has(&only_cached).await);
    assert!(fallback.delete(&[a]).await[0].is_ok());
    assert!(!subject.has(&a).await);
}

/// A store whose writes wait until they are let go.
#[derive(Debug)]
struct Held {
    inner: SharedStore,
    came: Notify,
    go: Notify,
}

#[async_trait::async_trait]
impl BlobStore for Held {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.inner.find_missing(digests).await
    }
    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        self.inner.read(digest, range).await
    }
    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        self.came.notify_one();
        self.go.notified().await;
        self.inner.write(digest, content).await
    }
    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        self.inner.read_batch(digests).await
    }
    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        self.inner.write_batch(blobs).await
    }
    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        self.inner.delete(digests).await
    }
    async fn probe(&self) -> Result<(), StoreError> {
        self.inner.probe().await
    }
}

#[tokio::test]
async fn a_deferred_write_that_is_being_made_does_not_bring_a_deleted_blob_back() {
    let held = Arc::new(Held { inner: lru(ROOM), came: Notify::new(), go: Notify::new() });
    let subject = Subject::new(deferred(lru(ROOM), held.clone(), ROOM));
    let (digest, bytes) = blob(1, 1_000);
    subject.put(&digest, &bytes).await;
    held.came.notified().await;
    let named = [digest];
    let mut deletion = subject.store.delete(&named);
    assert!(futures::poll!(&mut deletion).is_pending(), "the copy has begun");
    held.go.notify_one();
    assert!(deletion.await[0].is_ok());
    assert!(!subject.has(&digest).await && !has(&held.inner, &digest).await);
    subject.put(&digest, &bytes).await;
    held.came.notified().await;
    held.go.notify_one();
    while !has(&held.inner, &digest).await {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_deferred_write_is_there_at_once_and_arrives() {
    let (cache, fallback) = (lru(ROOM), lru(ROOM));
    let notes = Arc::new(Notes::default());
    let options = WithCacheOptions {
        defer_fallback_writes: true,
        deferred_bytes: 1_500,
        ..with_cache_options(notes.clone())
    };
    let subject = Subject::new(Arc::new(WithCache::new(cache, fallback.clone(), options)));
    let ((a, a_bytes), (b, b_bytes)) = (blob(1, 1_000), blob(2, 1_000));
    subject.put(&a, &a_bytes).await;
    subject.put(&b, &b_bytes).await;
    assert!(subject.has(&a).await && subject.has(&b).await);
    // The second found the queue full, or the first was written already: either way it is in the fallback or waits.
    tokio::time::timeout(Duration::from_secs(60), async {
        while !(has(&fallback, &a).await && has(&fallback, &b).await) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert!(notes.0.lock().contains(&StoreEvent::Deferred { waiting: 1_000 }));
    assert!(!notes.0.lock().contains(&StoreEvent::DeferredWriteLost));
}

#[tokio::test]
async fn what_finds_the_queue_full_is_written_before_it_is_acknowledged() {
    let fallback = lru(ROOM);
    let notes = Arc::new(Notes::default());
    let options = WithCacheOptions {
        defer_fallback_writes: true,
        deferred_bytes: 999,
        ..with_cache_options(notes.clone())
    };
    let subject = Subject::new(Arc::new(WithCache::new(lru(ROOM), fallback.clone(), options)));
    let ((a, a_bytes), (b, b_bytes)) = (blob(1, 1_000), blob(2, 1_000));
    subject.put(&a, &a_bytes).await;
    assert!(has(&fallback, &a).await);
    assert!(subject.store.write_batch(vec![(b, b_bytes)]).await[0].is_ok());
    assert!(has(&fallback, &b).await);
    assert_eq!(*notes.0.lock(), [StoreEvent::DeferredQueueFull; 2]);
}

/// A process that acknowledges blobs, and ends before any is in the fallback, which is away. What of it is there is what
/// lies on the disk.
fn killed_while_it_deferred(folder: &Path, digests: u64) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = deferring(folder, broken()).await;
        for seed in 0..digests {
            let (digest, bytes) = blob(seed, 1_000);
            store.write(&digest, pieces(&bytes, 100)).await.unwrap();
        }
        let batch = (digests..digests * 2).map(|seed| blob(seed, 500)).collect();
        assert!(store.write_batch(batch).await.iter().all(Result::is_ok));
    });
    runtime.shutdown_background();
}

/// A disk that outlives its process, in front of `fallback`.
async fn deferring(folder: &Path, fallback: SharedStore) -> WithCache {
    let cache = disk(folder, None, Arc::new(SystemClock)).await.unwrap();
    let journal = Journal::open(folder.join("deferred")).await.unwrap();
    let options = WithCacheOptions {
        defer_fallback_writes: true,
        deferred_bytes: ROOM,
        journal: Some(journal),
        ..with_cache_options(unobserved())
    };
    WithCache::open(Arc::new(cache), fallback, options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn deferred_writes_of_a_process_that_was_killed_are_made_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    tokio::task::spawn_blocking(move || killed_while_it_deferred(&path, 20)).await.unwrap();
    let digests: Vec<_> = (0..40).map(|seed| blob(seed, if seed < 20 { 1_000 } else { 500 }).0).collect();
    let fallback = lru(ROOM);
    let store = deferring(folder.path(), fallback.clone()).await;
    assert!(store.find_missing(&digests).await.unwrap().is_empty(), "acknowledged blobs are there at once");
    assert!(store.read_batch(&digests).await.iter().all(Result::is_ok));
    tokio::time::timeout(Duration::from_secs(60), store.settled()).await.unwrap();
    assert!(fallback.find_missing(&digests).await.unwrap().is_empty());
    // A third has nothing left to do.
    drop(store);
    let emptied = lru(ROOM);
    let store = deferring(folder.path(), emptied.clone()).await;
    store.settled().await;
    assert_eq!(emptied.find_missing(&digests).await.unwrap().len(), digests.len());
}

#[tokio::test]
async fn a_read_puts_the_missing_copy_back() {
    let (first, second) = (lru(ROOM), lru(ROOM));
    let subject = Subject::new(replicated(first.clone(), second.clone()));
    for (seed, batch) in [(1, false), (2, true)] {
        let (digest, bytes) = blob(seed, 1_000);
        second.write(&digest, pieces(&bytes, 100)).await.unwrap();
        let got = if batch {
            subject.store.read_batch(&[digest]).await.remove(0).unwrap()
        } else {
            subject.get_all(&digest).await.unwrap()
        };
        assert_eq!(got, bytes);
        assert!(has(&first, &digest).await);
    }
}

#[tokio::test]
async fn a_replica_may_be_away() {
    let subject = Subject::new(replicated(broken(), lru(ROOM)));
    let ((a, a_bytes), (b, b_bytes)) = (blob(1, 1_000), blob(2, 300_000));
    assert!(!subject.has(&b).await);
    subject.put(&b, &b_bytes).await;
    assert!(subject.store.write_batch(vec![(a, a_bytes.clone())]).await[0].is_ok());
    assert!(subject.has(&a).await && subject.has(&b).await);
    assert_eq!(subject.get_all(&b).await.unwrap(), b_bytes);
    assert_eq!(subject.store.read_batch(&[a]).await.remove(0).unwrap(), a_bytes);
    // It may have what the other lacks: that is trouble, not absence; and a delete that did not reach it is no success.
    assert!(matches!(subject.get_all(&blob(3, 10).0).await, Err(StoreError::Unavailable { .. })));
    assert!(subject.store.delete(&[a]).await[0].is_err());
}

#[tokio::test]
async fn a_blob_that_one_replica_lacks_is_not_missing() {
    let (first, second) = (lru(ROOM), lru(ROOM));
    let store = replicated(first.clone(), second);
    let (digest, bytes) = blob(1, 1_000);
    first.write(&digest, pieces(&bytes, 100)).await.unwrap();
    assert!(has(&store, &digest).await);
    let all_away = replicated(broken(), broken());
    assert!(all_away.find_missing(&[digest]).await.is_err());
}

#[tokio::test]
async fn existence_in_redis_is_remembered_forgotten_and_never_absence() {
    let connection = redis_server::database().await;
    let inner = lru(ROOM);
    let cache = fmb_cache(inner.clone(), connection.clone());
    let ((digest, bytes), (other, _)) = (blob(1, 1_000), blob(2, 1_000));
    assert!(!has(&cache, &digest).await);
    inner.write(&digest, pieces(&bytes, 100)).await.unwrap();
    assert!(has(&cache, &digest).await, "absence was remembered");
    let key = format!("C:{}_1000", digest.hash_hex());
    let value: String = connection.command(&redis::Cmd::get(&key)).await.unwrap();
    let left: i64 = connection.command(&redis::Cmd::ttl(&key)).await.unwrap();
    assert!(value == "1" && (1..=3_600).contains(&left), "{value} {left}");
    assert!(inner.delete(&[digest]).await[0].is_ok());
    assert!(has(&cache, &digest).await, "existence was not remembered");
    // Whoever reads notices.
    assert!(cache.read(&digest, ByteRange::default()).await.is_err());
    assert!(!has(&cache, &digest).await);
    cache.write(&digest, pieces(&bytes, 100)).await.unwrap();
    assert!(cache.delete(&[digest, other]).await.iter().all(Result::is_ok));
    assert!(!has(&cache, &digest).await);
}

#[tokio::test]
async fn without_redis_existence_is_asked_for_and_nothing_is_deleted() {
    let away = redis_server::options(redis_server::free_port().await, 0);
    let inner = lru(ROOM);
    let cache = fmb_cache(inner.clone(), Arc::new(RedisConnection::new(away)));
    let (digest, bytes) = blob(1, 1_000);
    cache.write(&digest, pieces(&bytes, 100)).await.unwrap();
    assert!(has(&cache, &digest).await);
    assert!(cache.delete(&[digest]).await[0].is_err(), "others would go on saying that it is there");
    assert!(has(&inner, &digest).await);
}

#[test]
fn one_storage_is_no_replication() {
    let options =
        ReplicatedOptions { queue_size: 0, writers: 1, read_replication: true, observer: unobserved() };
    assert!(Replicated::new(vec![lru(1)], options).unwrap_err().to_string().contains("at least 2"));
}

#[tokio::test]
async fn calls_are_told_with_their_bytes_and_outcome() {
    let notes = Arc::new(Notes::default());
    let store = Metrics::new(lru(ROOM), "lru", notes.clone());
    let (digest, bytes) = blob(1, 1_000);
    store.read(&digest, ByteRange::default()).await.map(drop).unwrap_err();
    store.write(&digest, pieces(&bytes, 100)).await.unwrap();
    let content = store.read(&digest, ByteRange { offset: 400, limit: None }).await.unwrap();
    futures::StreamExt::collect::<Vec<_>>(content).await;
    drop(store.read(&digest, ByteRange::default()).await.unwrap());
    let seen: Vec<_> = notes
        .0
        .lock()
        .iter()
        .map(|event| match event {
            StoreEvent::Call { method, error, bytes, .. } => (*method, error.is_none(), *bytes),
            other => panic!("{other:?}"),
        })
        .collect();
    let (read, write) = (Method::StreamRead, Method::StreamWrite);
    assert_eq!(seen, [(read, false, 0), (write, true, 1_000), (read, true, 600), (read, false, 0)]);
}

#[tokio::test]
async fn deletions_are_told_with_what_failed() {
    let notes = Arc::new(Notes::default());
    let away = redis_server::options(redis_server::free_port().await, 0);
    let broken = fmb_cache(lru(ROOM), Arc::new(RedisConnection::new(away)));
    let digests = [blob(1, 1_000).0, blob(2, 2_000).0];
    Metrics::new(lru(ROOM), "lru", notes.clone()).delete(&digests).await;
    Metrics::new(broken, "redis_fmb_cache", notes.clone()).delete(&digests).await;
    let seen = notes.0.lock();
    let told: Vec<_> = seen.iter().filter(|event| !matches!(event, StoreEvent::Call { .. })).collect();
    let expected = [
        &StoreEvent::Deleted { bytes: 1_000 },
        &StoreEvent::Deleted { bytes: 2_000 },
        &StoreEvent::DeleteErrors(2),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_repair_that_finds_no_room_is_told() {
    let (digest, bytes) = blob(1, 100);
    for (queue_size, expected) in [(0, 0), (1, 1)] {
        let notes = Arc::new(Notes::default());
        let options =
            ReplicatedOptions { queue_size, writers: 1, read_replication: false, observer: notes.clone() };
        let first = lru(ROOM);
        let (other, others) = blob(2, 100);
        first.write(&digest, pieces(&bytes, 100)).await.unwrap();
        first.write(&other, pieces(&others, 100)).await.unwrap();
        let store = Replicated::new(vec![first, lru(ROOM)], options).unwrap();
        // Nothing is repaired before the call ends, for it never waits.
        store.find_missing(&[digest, other]).await.unwrap();
        let full = notes.0.lock().iter().filter(|event| **event == StoreEvent::RepairQueueFull).count();
        assert_eq!(full, expected, "a queue of {queue_size}");
    }
}

#[tokio::test]
async fn calls_of_an_index_are_told() {
    let notes = Arc::new(Notes::default());
    let redis = RedisIndex::new(redis_server::database().await, "timed");
    let index = Timed::new(Arc::new(redis), "sql_index", notes.clone());
    let (digest, now) = (blob(1, 100).0, SystemClock.now());
    index.insert(&[NewBlob { digest, content: None }], now).await.unwrap();
    assert!(index.present(&[digest], now).await.unwrap().contains(&digest));
    index.totals().await.unwrap();
    let until = now.after(Duration::from_secs(60));
    let later = now.after(Duration::from_secs(1));
    let claim = Claim { unused_since: later, large: None, bytes: 1_000, blobs: 9, now: later, until };
    let claimed = index.claim(&claim).await.unwrap();
    index.forget(&claimed, until).await.unwrap();
    let calls: Vec<_> = notes
        .0
        .lock()
        .iter()
        .map(|event| match event {
            StoreEvent::Index { call, error: None, .. } => *call,
            other => panic!("{other:?}"),
        })
        .collect();
    let expected =
        [IndexCall::Insert, IndexCall::Present, IndexCall::Totals, IndexCall::Claim, IndexCall::Forget];
    assert_eq!(calls, expected);
}
