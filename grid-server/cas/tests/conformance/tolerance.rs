//! What is away is waited for only where nobody else can answer: caches and replicas that are away as real ones are, through
//! `until_available`. Time stands still but for what is waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join;
use grid_cas::conformance::{Subject, blob, pieces};
use grid_cas::decorators::with_cache::{WithCache, WithCacheOptions};
use grid_cas::observer::{StoreEvent, StoreObserver};
use grid_cas::redis_client::RedisConnection;
use grid_cas::wait::until_available;
use grid_cas::{BlobStore, ByteRange, ByteStream, SharedStore, StoreError};
use grid_core::Digest;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::redis_server;
use super::trees::*;

/// A store that can be away; calls wait for it for a minute.
#[derive(Debug)]
struct Distant {
    inner: SharedStore,
    away: AtomicBool,
    /// Whether a write that begins never ends.
    stuck: bool,
}

impl Distant {
    fn new(away: bool) -> Arc<Self> {
        Arc::new(Self { inner: lru(ROOM), away: AtomicBool::new(away), stuck: false })
    }

    fn comes_back(&self) {
        self.away.store(false, Ordering::SeqCst);
    }

    async fn there(&self) -> Result<(), StoreError> {
        until_available(|| async {
            match self.away.load(Ordering::SeqCst) {
                true => Err(StoreError::Unavailable {
                    backend: "a distant store".into(),
                    message: "away".into(),
                    retry_after: None,
                }),
                false => Ok(()),
            }
        })
        .await
    }
}

#[async_trait::async_trait]
impl BlobStore for Distant {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.there().await?;
        self.inner.find_missing(digests).await
    }
    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        self.there().await?;
        self.inner.read(digest, range).await
    }
    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        self.there().await?;
        self.inner.write(digest, content).await?;
        if self.stuck { std::future::pending().await } else { Ok(()) }
    }
    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        match self.there().await {
            Ok(()) => self.inner.read_batch(digests).await,
            Err(error) => digests.iter().map(|_| Err(error.clone())).collect(),
        }
    }
    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        match self.there().await {
            Ok(()) => self.inner.write_batch(blobs).await,
            Err(error) => vec![Err(error); blobs.len()],
        }
    }
    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        match self.there().await {
            Ok(()) => self.inner.delete(digests).await,
            Err(error) => vec![Err(error); digests.len()],
        }
    }
    async fn probe(&self) -> Result<(), StoreError> {
        self.there().await?;
        self.inner.probe().await
    }
}

/// Everything that a client does, many times.
async fn all_calls(subject: &Subject) {
    for seed in 0..20 {
        let ((a, a_bytes), (b, b_bytes)) = (blob(seed, 300_000), blob(100 + seed, 1_000));
        assert!(!subject.has(&a).await);
        subject.put(&a, &a_bytes).await;
        assert!(subject.store.write_batch(vec![(b, b_bytes.clone())]).await[0].is_ok());
        assert!(subject.has(&a).await && subject.has(&b).await);
        assert_eq!(subject.get_all(&a).await.unwrap(), a_bytes);
        assert_eq!(subject.store.read_batch(&[b]).await.remove(0).unwrap(), b_bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_away_costs_a_moment_once() {
    for tree in [with_cache as fn(_, _) -> _, |cache, fallback| deferred(cache, fallback, ROOM)] {
        let (cache, fallback) = (Distant::new(true), lru(ROOM));
        let subject = Subject::new(tree(cache.clone(), fallback.clone()));
        let began = Instant::now();
        all_calls(&subject).await;
        assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
        // What the cache did not take is in the fallback before it is acknowledged.
        assert!(fallback.find_missing(&[blob(0, 300_000).0]).await.unwrap().is_empty());
        cache.comes_back();
        tokio::time::advance(Duration::from_secs(5)).await;
        let (digest, bytes) = blob(1_000, 1_000);
        subject.put(&digest, &bytes).await;
        assert!(cache.find_missing(&[digest]).await.unwrap().is_empty(), "it is used again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_away_costs_a_moment_once_whichever_it_is() {
    for first in [true, false] {
        let (away, there) = (Distant::new(true), Distant::new(false));
        let subject = Subject::new(match first {
            true => replicated(away, there),
            false => replicated(there, away),
        });
        let began = Instant::now();
        all_calls(&subject).await;
        assert!(began.elapsed() <= Duration::from_secs(2), "{:?}", began.elapsed());
        // That a blob is in neither can't be told.
        let absent = subject.get_all(&blob(5_000, 10).0).await;
        assert!(matches!(absent, Err(StoreError::Unavailable { .. })), "{absent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_that_are_all_away_are_waited_for_until_one_is_back() {
    let (gone, restarting) = (Distant::new(false), Distant::new(false));
    let subject = Subject::new(replicated(gone.clone(), restarting.clone()));
    let ((a, a_bytes), (b, b_bytes), (c, c_bytes)) = (blob(1, 1_000), blob(2, 1_000), blob(3, 1_000));
    subject.put(&a, &a_bytes).await;
    gone.away.store(true, Ordering::SeqCst);
    let step = Duration::from_secs(20);
    let outage = async |restarting: &Distant| {
        restarting.away.store(true, Ordering::SeqCst);
        tokio::time::sleep(step).await;
        restarting.comes_back();
    };
    let began = Instant::now();
    let (read, ()) = join(subject.get_all(&a), outage(&restarting)).await;
    assert_eq!(read.unwrap(), a_bytes);
    let (missing, ()) = join(subject.store.find_missing(&[a]), outage(&restarting)).await;
    assert!(missing.unwrap().is_empty());
    let (read, ()) = join(subject.store.read_batch(&[a]), outage(&restarting)).await;
    assert_eq!(read[0].as_ref().unwrap(), &a_bytes);
    let (written, ()) = join(subject.store.write_batch(vec![(b, b_bytes)]), outage(&restarting)).await;
    assert!(written[0].is_ok(), "{written:?}");
    // Both known to be away: a stream is given to whoever is back first.
    restarting.away.store(true, Ordering::SeqCst);
    subject.store.find_missing(&[c]).await.unwrap_err();
    let (written, ()) = join(subject.store.write(&c, pieces(&c_bytes, 100)), outage(&restarting)).await;
    written.unwrap();
    assert!(began.elapsed() <= 10 * step, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_done_does_not_wait_long_for_the_cache() {
    let cache = Arc::new(Distant { inner: lru(ROOM), away: AtomicBool::new(false), stuck: true });
    let fallback = lru(ROOM);
    let subject = Subject::new(with_cache(cache, fallback.clone()));
    let (digest, bytes) = blob(1, 300_000);
    let put = tokio::time::timeout(Duration::from_secs(10), subject.put(&digest, &bytes));
    put.await.expect("it waited for the cache");
    assert!(fallback.find_missing(&[digest]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_deferred_write_that_the_cache_refuses_goes_to_the_fallback() {
    let fallback = lru(ROOM);
    let subject = Subject::new(deferred(lru(10_000), fallback.clone(), ROOM));
    let (large, bytes) = blob(1, 20_000);
    subject.put(&large, &bytes).await;
    assert!(fallback.find_missing(&[large]).await.unwrap().is_empty());
    assert_eq!(subject.get_all(&large).await.unwrap(), bytes);
}

/// A cache that takes content, and fails then for want of room.
#[derive(Debug)]
struct Brimful(SharedStore);

#[async_trait::async_trait]
impl BlobStore for Brimful {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.0.find_missing(digests).await
    }
    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        self.0.read(digest, range).await
    }
    async fn write(&self, _: &Digest, mut content: ByteStream) -> Result<(), StoreError> {
        futures::StreamExt::next(&mut content).await;
        Err(StoreError::Full { backend: "brimful".into(), message: "no room".into() })
    }
    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        self.0.read_batch(digests).await
    }
    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        self.0.write_batch(blobs).await
    }
    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        self.0.delete(digests).await
    }
    async fn probe(&self) -> Result<(), StoreError> {
        self.0.probe().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_deferred_write_that_the_cache_breaks_off_goes_past_it_when_it_is_sent_again() {
    let fallback = lru(ROOM);
    let subject = Subject::new(deferred(Arc::new(Brimful(lru(ROOM))), fallback.clone(), ROOM));
    let (digest, bytes) = blob(1, 20_000);
    let broken_off = subject.store.write(&digest, pieces(&bytes, 1_000)).await;
    assert!(matches!(broken_off, Err(StoreError::Unavailable { .. })), "{broken_off:?}");
    subject.put(&digest, &bytes).await;
    assert!(fallback.find_missing(&[digest]).await.unwrap().is_empty());
}

#[derive(Debug, Default)]
struct Notes(Mutex<Vec<StoreEvent>>);

impl StoreObserver for Notes {
    fn event(&self, _: &'static str, event: StoreEvent) {
        self.0.lock().push(event);
    }
}

#[tokio::test(start_paused = true)]
async fn deferred_writes_wait_for_a_fallback_as_long_as_it_is_away() {
    let (fallback, notes) = (Distant::new(true), Arc::new(Notes::default()));
    let options = WithCacheOptions {
        defer_fallback_writes: true,
        deferred_bytes: ROOM,
        ..with_cache_options(notes.clone())
    };
    let store = WithCache::new(lru(ROOM), fallback.clone(), options);
    let (digest, bytes) = blob(1, 1_000);
    store.write(&digest, pieces(&bytes, 100)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert!(store.find_missing(&[digest]).await.unwrap().is_empty(), "it was given up");
    fallback.comes_back();
    let began = Instant::now();
    store.settled().await;
    assert!(began.elapsed() <= Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(fallback.find_missing(&[digest]).await.unwrap().is_empty());
    assert!(!notes.0.lock().contains(&StoreEvent::DeferredWriteLost));
}

#[tokio::test]
async fn what_is_asked_for_health_is_what_calls_need() {
    let there = lru(ROOM);
    assert!(with_cache(broken(), there.clone()).probe().await.is_ok(), "it costs speed, nothing else");
    assert!(with_cache(there.clone(), broken()).probe().await.is_err());
    let waits_in_the_cache = deferred(broken(), there.clone(), ROOM);
    assert!(waits_in_the_cache.probe().await.is_err());
    assert!(replicated(broken(), there).probe().await.is_ok());
}

/// A port where connections are taken, and nothing is ever said.
async fn silence() -> (TcpListener, Arc<RedisConnection>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, Arc::new(RedisConnection::new(redis_server::options(port, 0))))
}

#[tokio::test]
async fn many_callers_wait_for_one_connection_and_not_one_after_the_other() {
    let (_listener, connection) = silence().await;
    tokio::time::pause();
    let began = Instant::now();
    let ping = redis::cmd("PING");
    let calls = (0..50).map(|_| connection.command::<()>(&ping));
    assert!(futures::future::join_all(calls).await.iter().all(Result::is_err));
    assert!(began.elapsed() <= Duration::from_secs(75), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_can_be_done_without_redis_does_not_wait_for_it() {
    let (_listener, connection) = silence().await;
    tokio::time::pause();
    let began = Instant::now();
    let attempts = (0..50).map(|_| async { connection.attempt::<()>(redis::pipe().cmd("PING")).await });
    assert!(futures::future::join_all(attempts).await.iter().all(Result::is_err));
    assert!(began.elapsed() <= Duration::from_secs(2), "{:?}", began.elapsed());
    let subject = Subject::new(fmb_cache(lru(ROOM), connection));
    let began = Instant::now();
    all_calls(&subject).await;
    assert!(began.elapsed() <= Duration::from_secs(2), "{:?}", began.elapsed());
}
