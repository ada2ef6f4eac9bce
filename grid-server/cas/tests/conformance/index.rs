//! `!sql-index`, `!redis-index` and cleanup on each database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use grid_cas::cleanup::{Policy, Reason, Report, clean};
use grid_cas::conformance::{Subject, blob, pieces};
use grid_cas::index::redis::RedisIndex;
use grid_cas::index::sql::SqlPool;
use grid_cas::index::{BlobIndex, Claim, IndexClock, NewBlob, Totals};
use grid_cas::{BlobStore, ByteRange, ByteStream, SharedStore, StoreError};
use grid_core::{Clock, Digest, SystemClock, Timestamp};
use uuid::Uuid;

use super::databases::{Hands, index, indexed, postgres_pool, sqlite_pool};
use super::redis_server;
use super::trees::{ROOM, broken, lru};

const HOUR: Duration = Duration::from_secs(3600);

/// What the tests work on: an index, a storage behind it, and the two together.
struct Fixture {
    clock: Arc<Hands>,
    index: Arc<dyn BlobIndex>,
    storage: SharedStore,
    subject: Subject,
}

impl Fixture {
    fn new((pool, folder): (SqlPool, Option<tempfile::TempDir>)) -> Self {
        Self::over(index(pool, HOUR), folder)
    }

    async fn redis() -> Self {
        Self::over(Arc::new(RedisIndex::new(redis_server::database().await, "A")), None)
    }

    fn over(index: Arc<dyn BlobIndex>, folder: Option<tempfile::TempDir>) -> Self {
        let (clock, storage) = (Hands::new(), lru(ROOM));
        let store = indexed(storage.clone(), index.clone(), clock.clone(), 0);
        Self { clock, index, storage, subject: Subject::new(store).keeping(folder) }
    }

    /// Blobs of 1,000 bytes, each a minute older than the next.
    async fn fill(&self, count: u64) -> Vec<Digest> {
        let mut digests = Vec::new();
        for seed in 0..count {
            let (digest, bytes) = blob(seed, 1_000);
            self.subject.put(&digest, &bytes).await;
            digests.push(digest);
            self.clock.forward(Duration::from_secs(60));
        }
        digests
    }

    async fn clean(&self, policy: &Policy) -> Report {
        clean(&*self.index, &self.storage, policy, &*self.clock, &|_| {}).await.unwrap()
    }

    async fn there(&self, digests: &[Digest]) -> usize {
        digests.len() - self.storage.find_missing(digests).await.unwrap().len()
    }

    fn claim(&self, bytes: u64) -> Claim {
        let now = self.clock.now();
        Claim { unused_since: now, large: None, bytes, blobs: 100, now, until: now.after(HOUR) }
    }
}

fn totals(blobs: u64) -> Totals {
    Totals { bytes: blobs * 1_000, blobs }
}

/// Makes the test of this name on each database.
macro_rules! on_each {
    ($($name:ident),* $(,)?) => {
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::Fixture::new(super::postgres_pool().await)).await; })*
        }
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::Fixture::redis().await).await; })*
        }
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::Fixture::new(super::sqlite_pool().await)).await; })*
        }
    };
}

on_each!(
    totals_are_exact_whatever_is_stored_twice,
    a_claim_takes_the_oldest_and_no_more_than_asked,
    two_cleaners_never_claim_the_same_blob,
    large_blobs_may_go_sooner,
    a_blob_noted_anew_is_not_forgotten,
    a_writer_waits_for_a_deletion_and_its_blob_stays,
    a_lost_blob_is_noticed_and_can_return,
    a_blob_stored_while_a_read_misses_it_stays,
    a_corrupt_blob_is_forgotten_until_it_is_stored_again,
    cleanup_ends_at_the_low_watermark,
    cleanup_keeps_what_was_promised_and_says_so,
    asking_for_a_blob_keeps_it,
    cleanup_keeps_what_is_pinned_and_says_so,
    nothing_but_its_end_ends_a_pin,
    only_what_is_there_is_pinned,
    a_dry_run_deletes_nothing,
    a_storage_that_is_away_is_not_emptied_from_the_index,
    cleaners_side_by_side_with_writers_lose_nothing,
    cleaners_at_once_delete_no_more_than_one_would,
    a_turn_is_one_holders_until_it_ends,
);

async fn totals_are_exact_whatever_is_stored_twice(f: Fixture) {
    let blobs: Vec<_> = (0..50).map(|seed| blob(seed, 1_000)).collect();
    let twice: Vec<_> = blobs.iter().chain(&blobs).cloned().collect();
    let writes = (0..4).map(|_| f.subject.store.write_batch(twice.clone()));
    assert!(join_all(writes).await.into_iter().flatten().all(|answer| answer.is_ok()));
    assert_eq!(f.index.totals().await.unwrap(), totals(50));
    let digests: Vec<_> = blobs.iter().take(20).map(|(digest, _)| *digest).collect();
    assert!(f.subject.store.delete(&digests).await.iter().all(Result::is_ok));
    assert_eq!(f.index.totals().await.unwrap(), totals(30));
}

async fn a_claim_takes_the_oldest_and_no_more_than_asked(f: Fixture) {
    let digests = f.fill(10).await;
    let mut claimed = f.index.claim(&f.claim(2_500)).await.unwrap();
    claimed.sort_unstable();
    let mut oldest = digests[..3].to_vec();
    oldest.sort_unstable();
    assert_eq!(claimed, oldest);
    assert_eq!(f.subject.store.find_missing(&digests).await.unwrap(), digests[..3]);
    let until = f.claim(0).until;
    f.index.release(&claimed, until).await.unwrap();
    assert!(f.subject.store.find_missing(&digests).await.unwrap().is_empty());
}

async fn two_cleaners_never_claim_the_same_blob(f: Fixture) {
    let digests = f.fill(40).await;
    let claim = f.claim(5_000);
    let claims = join_all((0..8).map(|_| f.index.claim(&claim))).await;
    let mut claimed: Vec<Digest> = claims.into_iter().flat_map(Result::unwrap).collect();
    let count = claimed.len();
    claimed.sort_unstable();
    claimed.dedup();
    assert_eq!(claimed.len(), count, "a blob was claimed twice");
    assert!(count <= digests.len() && count >= 5, "{count}");
}

async fn large_blobs_may_go_sooner(f: Fixture) {
    let (small, s) = blob(1, 1_000);
    let (large, l) = blob(2, 5_000);
    f.subject.put(&small, &s).await;
    f.subject.put(&large, &l).await;
    f.clock.forward(HOUR);
    let mut claim = f.claim(u64::MAX >> 1);
    (claim.unused_since, claim.large) = (claim.now.before(HOUR * 5), Some((1_000, claim.now)));
    assert_eq!(f.index.eligible(&claim).await.unwrap(), Totals { bytes: 5_000, blobs: 1 });
    assert_eq!(f.index.claim(&claim).await.unwrap(), [large]);
}

async fn a_blob_noted_anew_is_not_forgotten(f: Fixture) {
    let digests = f.fill(1).await;
    let claim = f.claim(1_000);
    assert_eq!(f.index.claim(&claim).await.unwrap(), digests);
    let again = [NewBlob { digest: digests[0], content: None }];
    let claimed = f.index.insert(&again, f.clock.now()).await.unwrap();
    assert!(claimed.contains(&digests[0]) && !f.subject.has(&digests[0]).await, "it may yet be deleted");
    f.clock.forward(HOUR * 2);
    assert!(f.index.insert(&again, f.clock.now()).await.unwrap().contains(&digests[0]));
    assert!(f.index.insert(&again, f.clock.now()).await.unwrap().is_empty());
    assert_eq!(f.index.forget(&digests, claim.until).await.unwrap(), Totals::default());
    assert!(f.subject.has(&digests[0]).await);
    assert_eq!(f.index.totals().await.unwrap(), totals(1));
}

async fn a_writer_waits_for_a_deletion_and_its_blob_stays(f: Fixture) {
    let (digest, bytes) = blob(0, 1_000);
    f.fill(1).await;
    let claim = f.claim(1_000);
    assert_eq!(f.index.claim(&claim).await.unwrap(), [digest]);
    let store = f.subject.store.clone();
    let (taken, deleted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let note = (Arc::clone(&taken), Arc::clone(&deleted));
    let content = pieces(&bytes, 100).inspect(move |_| {
        note.0.store(true, Ordering::SeqCst);
        assert!(note.1.load(Ordering::SeqCst), "the writer did not wait for the deletion");
    });
    let mut looks = f.clock.looks.subscribe();
    let before = *looks.borrow();
    let upload = tokio::spawn(async move { store.write(&digest, Box::pin(content)).await });
    // It asks for the blob, asks for claims, and asks for them again: then it waits.
    looks.wait_for(|looks| *looks >= before + 3 || upload.is_finished()).await.unwrap();
    assert!(!taken.load(Ordering::SeqCst));
    deleted.store(true, Ordering::SeqCst);
    assert!(f.storage.delete(&[digest]).await[0].is_ok());
    f.index.forget(&[digest], claim.until).await.unwrap();
    upload.await.unwrap().unwrap();
    assert_eq!(f.subject.get_all(&digest).await.unwrap(), bytes);
    assert!(f.subject.has(&digest).await);
}

async fn a_lost_blob_is_noticed_and_can_return(f: Fixture) {
    let digests = f.fill(2).await;
    assert!(f.storage.delete(&digests).await.iter().all(Result::is_ok));
    f.subject.get_all(&digests[0]).await.unwrap_err();
    f.subject.store.read_batch(&digests[1..]).await.remove(0).unwrap_err();
    assert_eq!(f.subject.store.find_missing(&digests).await.unwrap(), digests);
    assert_eq!(f.index.totals().await.unwrap(), totals(0));
    f.fill(2).await;
    assert_eq!(f.there(&digests).await, 2);
}

async fn a_blob_stored_while_a_read_misses_it_stays(f: Fixture) {
    stays_though_missed(f, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_kept_in_postgres_while_a_read_misses_it_stays() {
    stays_though_missed(Fixture::new(postgres_pool().await), 10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_kept_in_sqlite_while_a_read_misses_it_stays() {
    stays_though_missed(Fixture::new(sqlite_pool().await), 10_000).await;
}

async fn stays_though_missed(f: Fixture, inline: u64) {
    for batched in [false, true] {
        let (digest, bytes) = blob(u64::from(batched), 1_000);
        let writer = indexed(f.storage.clone(), f.index.clone(), f.clock.clone(), inline);
        let late = Late { inner: f.storage.clone(), writer, blob: (digest, bytes.clone()) };
        let reader = indexed(Arc::new(late), f.index.clone(), f.clock.clone(), inline);
        if batched {
            reader.read_batch(&[digest]).await.remove(0).unwrap_err();
        } else {
            assert!(reader.read(&digest, ByteRange::default()).await.is_err());
        }
        assert!(f.subject.has(&digest).await, "it was acknowledged");
        assert_eq!(reader.read_batch(&[digest]).await.remove(0).unwrap(), bytes);
    }
}

async fn a_corrupt_blob_is_forgotten_until_it_is_stored_again(f: Fixture) {
    let digests = f.fill(2).await;
    let torn: SharedStore = Arc::new(Torn(f.storage.clone()));
    let reader = indexed(torn, f.index.clone(), f.clock.clone(), 0);
    assert!(matches!(reader.read_batch(&digests[..1]).await.remove(0), Err(StoreError::Corrupt { .. })));
    assert_eq!(f.subject.store.find_missing(&digests).await.unwrap(), digests[..1]);
    f.fill(1).await;
    assert!(f.subject.store.find_missing(&digests).await.unwrap().is_empty());
}

/// A storage whose answer that a blob is not there arrives after somebody has stored it.
#[derive(Debug)]
struct Late {
    inner: SharedStore,
    writer: SharedStore,
    blob: (Digest, Bytes),
}

impl Late {
    async fn arrive(&self, is_missing: bool) {
        if is_missing {
            assert!(self.writer.write_batch(vec![self.blob.clone()]).await[0].is_ok());
        }
    }
}

#[async_trait]
impl BlobStore for Late {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.inner.find_missing(digests).await
    }
    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        let answer = self.inner.read(digest, range).await;
        self.arrive(answer.is_err()).await;
        answer
    }
    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        self.inner.write(digest, content).await
    }
    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        let answers = self.inner.read_batch(digests).await;
        self.arrive(answers.iter().any(Result::is_err)).await;
        answers
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

/// A storage in which every blob is torn: it finds that out while it gives one.
#[derive(Debug)]
struct Torn(SharedStore);

fn torn(digest: &Digest) -> StoreError {
    StoreError::Corrupt { digest: *digest, backend: "torn".into() }
}

#[async_trait]
impl BlobStore for Torn {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.0.find_missing(digests).await
    }
    async fn read(&self, digest: &Digest, _: ByteRange) -> Result<ByteStream, StoreError> {
        let pieces = [Ok(Bytes::from_static(b"half")), Err(torn(digest))];
        Ok(futures::stream::iter(pieces).boxed())
    }
    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        self.0.write(digest, content).await
    }
    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        digests.iter().map(|digest| Err(torn(digest))).collect()
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

async fn cleanup_ends_at_the_low_watermark(f: Fixture) {
    let digests = f.fill(50).await;
    let policy = Policy::new(50_000, 20_500, 7_000);
    assert_eq!(f.clean(&Policy::new(50_001, 0, 1)).await.deleted, totals(0), "below the high watermark");
    f.clock.forward(HOUR * 5);
    let report = f.clean(&policy).await;
    assert_eq!((report.before, report.after, report.kept), (totals(50), totals(20), None));
    assert_eq!(report.deleted, totals(30));
    assert_eq!((f.there(&digests[..30]).await, f.there(&digests[30..]).await), (0, 20));
    let counted = Policy { blob_counts: Some((20, 15)), ..Policy::new(u64::MAX, u64::MAX, 7_000) };
    assert_eq!(f.clean(&counted).await.after, totals(15));
}

async fn cleanup_keeps_what_was_promised_and_says_so(f: Fixture) {
    let digests = f.fill(10).await;
    let promised = HOUR * 3 + f.index.precision();
    f.clock.forward(promised - Duration::from_secs(5 * 60 + 30));
    let report = f.clean(&Policy::new(1, 0, 100_000)).await;
    // The promise is three hours, and uses are noted with some precision: those of both together stay.
    assert_eq!(f.there(&digests[5..]).await, 5);
    let kept = report.kept.unwrap();
    assert_eq!((report.after, kept.totals.bytes), (totals(5), 5_000));
    assert_eq!(kept.reason, Reason::UsedWithin(promised));
}

async fn asking_for_a_blob_keeps_it(f: Fixture) {
    let digests = f.fill(10).await;
    f.clock.forward(HOUR * 10);
    assert!(f.subject.store.find_missing(&digests[2..4]).await.unwrap().is_empty());
    let report = f.clean(&Policy::new(1, 0, 100_000)).await;
    assert_eq!(report.after, totals(2));
    assert_eq!(f.there(&digests[2..4]).await, 2);
}

async fn cleanup_keeps_what_is_pinned_and_says_so(f: Fixture) {
    let digests = f.fill(10).await;
    let until = f.clock.now().after(HOUR * 100);
    assert_eq!(f.index.pin(&digests[2..5], until).await.unwrap().len(), 3);
    f.clock.forward(HOUR * 50);
    assert_eq!(f.index.pinned(f.clock.now()).await.unwrap(), totals(3));
    f.subject.has(&digests[9]).await;
    let all = Policy::new(1, 0, 100_000);
    let large =
        Policy { large_blobs: Some((1, Duration::ZERO)), only_if_unused_for: HOUR * 4, ..all.clone() };
    let dry = f.clean(&Policy { dry_run: true, ..all.clone() }).await;
    assert_eq!((dry.would_delete.unwrap().blobs, dry.kept.unwrap().pinned), (6, totals(3)));
    for policy in [large, all.clone()] {
        let report = f.clean(&policy).await;
        assert_eq!((report.after, f.there(&digests).await), (totals(4), 4));
        assert_eq!(report.kept.as_ref().unwrap().pinned, totals(3));
        assert!(
            report.to_string().contains("3000 bytes in 3 blobs are pinned, and all others were"),
            "{report}"
        );
    }
    assert_eq!(f.there(&digests[2..5]).await, 3);
    // A pin that ended counts as a use at its end.
    f.clock.forward(HOUR * 52);
    assert_eq!(f.index.pinned(f.clock.now()).await.unwrap(), totals(0));
    let report = f.clean(&all).await;
    assert_eq!((report.after, report.kept.unwrap().pinned), (totals(3), totals(0)));
    f.clock.forward(HOUR * 4);
    assert_eq!(f.clean(&all).await.after, totals(0));
}

async fn nothing_but_its_end_ends_a_pin(f: Fixture) {
    let digests = f.fill(2).await;
    let until = f.clock.now().after(HOUR * 1_000);
    assert_eq!(f.index.pin(&digests, until).await.unwrap().len(), 2);
    let pins = async || {
        let pins: Vec<_> = f.index.pins(f.clock.now()).try_concat().await.unwrap();
        // Redis keeps times to the millisecond, and tells how long is left.
        assert!(pins.iter().all(|pin| pin.until.since(until).max(until.since(pin.until)) < HOUR), "{pins:?}");
        pins.len()
    };
    assert_eq!(pins().await, 2);
    f.clock.forward(HOUR * 10);
    // It is asked for, stored again, claimed and given back, and pinned for less.
    assert!(f.subject.store.find_missing(&digests).await.unwrap().is_empty());
    let again: Vec<_> = digests.iter().map(|digest| NewBlob { digest: *digest, content: None }).collect();
    assert!(f.index.insert(&again, f.clock.now()).await.unwrap().is_empty());
    let claimed_until = f.clock.now().after(HOUR);
    f.index.claim_these(&digests, f.clock.now(), claimed_until).await.unwrap();
    assert!(f.index.pin(&digests, until.after(HOUR)).await.unwrap().is_empty(), "it may yet be deleted");
    f.index.release(&digests, claimed_until).await.unwrap();
    f.index.pin(&digests, f.clock.now().after(HOUR * 5)).await.unwrap();
    assert_eq!(pins().await, 2);
    // A claim that ended: what is stored anew is pinned still.
    f.index.claim_these(&digests, f.clock.now(), f.clock.now().after(HOUR)).await.unwrap();
    f.clock.forward(HOUR * 2);
    f.index.insert(&again, f.clock.now()).await.unwrap();
    assert_eq!(pins().await, 2);
    assert!(f.index.claim(&f.claim(u64::MAX >> 1)).await.unwrap().is_empty());

    assert_eq!(f.index.unpin(&digests[..1], f.clock.now()).await.unwrap().len(), 1);
    assert!(f.index.unpin(&digests[..1], f.clock.now()).await.unwrap().is_empty());
    assert_eq!(pins().await, 1);
    let now = f.clock.now();
    let before = Claim { unused_since: now.before(Duration::from_secs(1)), ..f.claim(u64::MAX >> 1) };
    assert!(f.index.claim(&before).await.unwrap().is_empty(), "it counts as used now");
    f.clock.forward(HOUR * 2);
    assert_eq!(f.index.claim(&f.claim(u64::MAX >> 1)).await.unwrap(), digests[..1]);
}

async fn only_what_is_there_is_pinned(f: Fixture) {
    let digests = f.fill(2).await;
    let absent = blob(99, 1_000).0;
    let pinned = f.index.pin(&[digests[0], absent], f.clock.now().after(HOUR * 9)).await.unwrap();
    assert_eq!(pinned.into_iter().collect::<Vec<_>>(), digests[..1]);
    assert!(f.index.unpin(&[digests[1], absent], f.clock.now()).await.unwrap().is_empty());
    assert_eq!(f.index.totals().await.unwrap(), totals(2));
    // A pin goes with its blob: what is stored anew begins without.
    assert!(f.subject.store.delete(&digests).await.iter().all(Result::is_ok));
    f.fill(2).await;
    assert_eq!(f.index.pinned(f.clock.now()).await.unwrap(), totals(0));
}

async fn a_dry_run_deletes_nothing(f: Fixture) {
    let digests = f.fill(10).await;
    f.clock.forward(HOUR * 5);
    let report = f.clean(&Policy { dry_run: true, ..Policy::new(1, 4_000, 1_000) }).await;
    assert_eq!(report.would_delete.unwrap().bytes, 6_000);
    assert!(report.to_string().contains("would delete 6000 bytes"), "{report}");
    assert_eq!(f.there(&digests).await, 10);
    assert!(f.subject.store.find_missing(&digests).await.unwrap().is_empty());
}

async fn a_storage_that_is_away_is_not_emptied_from_the_index(f: Fixture) {
    f.fill(30).await;
    f.clock.forward(HOUR * 5);
    let report = clean(&*f.index, &broken(), &Policy::new(1, 0, 5_000), &*f.clock, &|_| {}).await.unwrap();
    assert_eq!((report.deleted, report.failed, report.after), (totals(0), totals(5), totals(30)));
    assert_eq!(report.kept.unwrap().reason, Reason::NotDeletable);
    f.clock.forward(HOUR);
    assert_eq!(f.clean(&Policy::new(1, 0, 5_000)).await.after, totals(0));
}

async fn cleaners_at_once_delete_no_more_than_one_would(f: Fixture) {
    f.fill(50).await;
    f.clock.forward(HOUR * 5);
    let policy = Policy::new(50_000, 20_500, 3_000);
    let reports = join_all((0..4).map(|_| f.clean(&policy))).await;
    assert_eq!(f.index.totals().await.unwrap(), totals(20));
    let deleted = reports.iter().fold(Totals::default(), |sum, report| sum.plus(report.deleted));
    assert_eq!(deleted, totals(30));
    let yielded =
        |report: &&Report| report.kept.as_ref().is_some_and(|kept| kept.reason == Reason::AnothersTurn);
    for report in reports.iter().filter(yielded) {
        assert!(report.to_string().contains("another cleaner is at work"), "{report}");
    }
}

async fn a_turn_is_one_holders_until_it_ends(f: Fixture) {
    let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
    let take = async |holder, time| {
        f.index.take_turn(holder, f.clock.now(), f.clock.now().after(time)).await.unwrap()
    };
    assert!(take(one, HOUR).await);
    assert!(!take(two, HOUR).await);
    f.index.end_turn(two).await.unwrap();
    assert!(!take(two, HOUR).await, "a turn is ended by its holder alone");
    assert!(take(one, HOUR).await, "and can be prolonged");
    f.index.end_turn(one).await.unwrap();
    assert!(take(two, Duration::from_millis(1)).await);
    // That holder died. Redis counts the time itself; the others go by the clock.
    f.clock.forward(HOUR);
    while !take(one, HOUR).await {
        tokio::task::yield_now().await;
    }
}

/// Writers store the same blobs again and again while cleaners delete whatever they can: what a writer was last told
/// is there must be there.
async fn cleaners_side_by_side_with_writers_lose_nothing(f: Fixture) {
    let policy = Policy { promised_lifetime: Duration::ZERO, ..Policy::new(1, 0, 3_000) };
    for round in 0..5 {
        let write = async {
            for seed in 0..20 {
                let (digest, bytes) = blob(seed, 1_000);
                f.subject.put(&digest, &bytes).await;
            }
        };
        let cleaners = join_all((0..3).map(|_| clean(&*f.index, &f.storage, &policy, &*f.clock, &|_| {})));
        let (cleaned, ()) = tokio::join!(cleaners, write);
        assert!(cleaned.iter().all(Result::is_ok), "{cleaned:?}");
        let digests: Vec<_> = (0..20).map(|seed| blob(seed, 1_000).0).collect();
        let missing = f.subject.store.find_missing(&digests).await.unwrap();
        let said: Vec<_> = digests.iter().filter(|digest| !missing.contains(digest)).copied().collect();
        assert_eq!(f.there(&said).await, said.len(), "the index promises what is not there");
        assert_eq!(f.index.totals().await.unwrap(), totals(said.len() as u64), "round {round}");
        // Uses are noted to within an hour: now all of this round's may go.
        f.clock.forward(HOUR * 2);
    }
}

#[tokio::test]
async fn an_index_of_buildgrids_is_taken_over_and_its_counter_is_kept() {
    let connection = redis_server::database().await;
    let index = RedisIndex::new(connection.clone(), "A");
    let digests: Vec<Digest> = (0..30).map(|seed| blob(seed, 1_000).0).collect();
    let year = 365 * 24 * 3600_u64;
    for digest in &digests[..29] {
        let key = format!("A:{}_1000", digest.hash_hex());
        connection.command::<()>(&redis::Cmd::set_ex(key, 1, year - 7_200)).await.unwrap();
    }
    connection.command::<()>(&redis::Cmd::set("total_size", 29_000)).await.unwrap();
    let now = SystemClock.now();
    // A blob that is noted before anybody asked how many there are.
    index.insert(&[NewBlob { digest: digests[29], content: None }], now).await.unwrap();
    assert_eq!(index.totals().await.unwrap(), totals(30));
    let claim = Claim {
        unused_since: now.before(HOUR),
        large: None,
        bytes: 10_000,
        blobs: 100,
        now,
        until: now.after(HOUR),
    };
    assert_eq!(index.present(&digests[..5], now).await.unwrap().len(), 5);
    let claimed = index.claim(&claim).await.unwrap();
    assert_eq!(claimed.len(), 10);
    assert!(claimed.iter().all(|digest| !digests[..5].contains(digest)), "used just now, and claimed");
    assert_eq!(index.forget(&claimed, claim.until).await.unwrap(), totals(10));
    let bytes: u64 = connection.command(&redis::Cmd::get("total_size")).await.unwrap();
    assert_eq!(bytes, 20_000, "BuildGrid's counter");
    let key = format!("A:{}_1000", digests[0].hash_hex());
    let left: i64 = connection.command(&redis::Cmd::ttl(key)).await.unwrap();
    assert!(left > 365 * 24 * 3600 - 60, "a use puts the expiry off");
}

/// A machine's clock that is wrong by so many minutes.
#[derive(Debug)]
struct Wrong(i64);

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        Timestamp(SystemClock.now().0 + self.0 * 60_000_000)
    }
}

async fn clocks_that_differ_break_no_promise(index: Arc<dyn BlobIndex>) {
    let storage = lru(ROOM);
    let mut servers = Vec::new();
    for minutes in [-5, 5] {
        let clock = IndexClock::following(index.clone(), Arc::new(Wrong(minutes))).await;
        servers.push(Subject::new(indexed(storage.clone(), index.clone(), clock, 0)));
    }
    let ((a, a_bytes), (b, b_bytes)) = (blob(1, 1_000), blob(2, 1_000));
    servers[0].put(&a, &a_bytes).await;
    servers[1].put(&b, &b_bytes).await;
    // Used just now, whoever looks.
    let promise = Duration::from_secs(4 * 60);
    let policy = Policy { promised_lifetime: promise, ..Policy::new(1, 0, 100_000) };
    for minutes in [-5, 5] {
        let clock = IndexClock::of(&*index, Arc::new(Wrong(minutes))).await.unwrap();
        let report = clean(&*index, &storage, &policy, &clock, &|_| {}).await.unwrap();
        assert_eq!(report.after, totals(2), "{report}");
        assert_eq!(report.kept.unwrap().reason, Reason::UsedWithin(promise + index.precision()));
        // A claim of one of them is one for the other.
        let until = clock.now().after(Duration::from_secs(60));
        assert_eq!(index.claim_these(&[a], clock.now(), until).await.unwrap(), [a]);
        for minutes in [-5, 5] {
            let clock = IndexClock::of(&*index, Arc::new(Wrong(minutes))).await.unwrap();
            assert!(index.claimed(&[a], clock.now()).await.unwrap().contains(&a), "{minutes}");
            assert!(index.claim_these(&[a], clock.now(), until).await.unwrap().is_empty(), "{minutes}");
        }
        index.release(&[a], until).await.unwrap();
    }
    for server in &servers {
        assert_eq!(server.get_all(&a).await.unwrap(), a_bytes);
        assert!(server.has(&a).await && server.has(&b).await);
    }
}

#[tokio::test]
async fn clocks_that_differ_break_no_promise_on_postgresql() {
    clocks_that_differ_break_no_promise(index(postgres_pool().await.0, Duration::ZERO)).await;
}

#[tokio::test]
async fn clocks_that_differ_break_no_promise_on_redis() {
    let index = RedisIndex::new(redis_server::database().await, "A");
    clocks_that_differ_break_no_promise(Arc::new(index)).await;
}

#[tokio::test]
async fn what_is_whole_in_the_index_goes_with_its_row() {
    for pool in [postgres_pool().await, sqlite_pool().await] {
        let f = Fixture::new(pool);
        let blobs: Vec<_> = (0..3).map(|seed| blob(seed, 100)).collect();
        let digests: Vec<Digest> = blobs.iter().map(|(digest, _)| *digest).collect();
        let new: Vec<NewBlob> =
            blobs.into_iter().map(|(digest, content)| NewBlob { digest, content: Some(content) }).collect();
        let now = f.clock.now();
        f.index.insert(&new, now).await.unwrap();
        assert_eq!(f.index.contents(&digests).await.unwrap().len(), 3);
        let until = now.after(HOUR);
        assert_eq!(f.index.claim_these(&digests[..2], now, until).await.unwrap().len(), 2);
        assert_eq!(f.index.forget(&digests[..2], until).await.unwrap().blobs, 2);
        let left = f.index.contents(&digests).await.unwrap();
        assert_eq!(left.iter().map(|(digest, _)| *digest).collect::<Vec<_>>(), digests[2..]);
    }
}
