//! What backends tell of what they hold, and what `fsck` and `janitor` make of that.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use grid_cas::backends::redis::Redis;
use grid_cas::backends::s3::{S3, S3Options};
use grid_cas::backends::sql::Sql;
use grid_cas::conformance::{blob, blob_of, pieces};
use grid_cas::content::from_bytes;
use grid_cas::form::Form;
use grid_cas::fsck::{self, Indexed, fsck};
use grid_cas::index::redis::RedisIndex;
use grid_cas::index::sql::SqlPool;
use grid_cas::index::{BlobIndex, Totals};
use grid_cas::janitor::{self, sweep};
use grid_cas::s3_client::layout::Layout;
use grid_cas::{BlobStore, Inventory, SharedStore, StoreError};
use grid_core::{Clock, Digest, DigestFunction, SystemClock, Timestamp};
use tokio::sync::Notify;

use super::databases::{Hands, index, indexed, postgres_pool, sqlite_pool};
use super::s3_server::Server;
use super::trees::disk;
use super::{redis_server, trees};

const HOUR: Duration = Duration::from_secs(3600);
const ABANDONED: janitor::Options =
    janitor::Options { min_age: Duration::from_secs(1800), hold: Duration::ZERO, dry_run: false };

/// An index and what it is of: a backend that is also written past the index.
struct Fixture {
    clock: Arc<Hands>,
    what: Indexed,
    store: SharedStore,
    _keep: Box<dyn Any + Send + Sync>,
}

impl Fixture {
    fn new<T: Inventory + 'static>(
        backend: Arc<T>,
        (index, inline): (Arc<dyn BlobIndex>, u64),
        keep: impl Any + Send + Sync,
    ) -> Self {
        let clock = Hands::new();
        let storage: SharedStore = backend.clone();
        let store = indexed(storage.clone(), index.clone(), clock.clone(), inline);
        Self {
            clock,
            what: Indexed { index, storage, backends: vec![backend] },
            store,
            _keep: Box::new(keep),
        }
    }

    async fn disk_and_sqlite() -> Self {
        let (folder, (pool, database)) = (tempfile::tempdir().unwrap(), sqlite_pool().await);
        let backend = disk(folder.path(), None, Arc::new(SystemClock)).await.unwrap();
        Self::new(Arc::new(backend), sql_index(pool), (folder, database))
    }

    async fn s3_and_postgres() -> Self {
        let server = Server::start().await;
        let layout = Layout {
            hash_prefix_size: 2,
            path_prefix: Some("some/where".into()),
            ..Layout::plain("main-{digest[0]}")
        };
        layout.buckets().unwrap().iter().for_each(|bucket| server.bucket(bucket));
        let backend = S3::new(
            server.connection().await,
            S3Options { layout, versioned_deletes: false, form: Form::Plain },
        );
        let (pool, _) = postgres_pool().await;
        Self::new(Arc::new(backend), sql_index(pool), server)
    }

    async fn redis_and_redis() -> Self {
        let connection = redis_server::database().await;
        let index = Arc::new(RedisIndex::new(connection.clone(), "A"));
        Self::new(Arc::new(Redis::new(connection)), (index, 0), ())
    }

    async fn sql_and_postgres() -> Self {
        let (pool, _) = postgres_pool().await;
        let backend = Sql::new(pool.clone(), Arc::new(SystemClock), "sql".into());
        Self::new(Arc::new(backend), sql_index(pool), ())
    }

    async fn sql_and_sqlite() -> Self {
        let (pool, folder) = sqlite_pool().await;
        let backend = Sql::new(pool.clone(), Arc::new(SystemClock), "sql".into());
        Self::new(Arc::new(backend), sql_index(pool), folder)
    }

    /// Blobs that the store takes, past the index where `storage` is the one behind it.
    async fn fill(storage: &SharedStore, seeds: std::ops::Range<u64>) -> Vec<Digest> {
        let blobs: Vec<_> = seeds.map(|seed| blob(seed, 1_000)).collect();
        let digests = blobs.iter().map(|(digest, _)| *digest).collect();
        assert!(storage.write_batch(blobs).await.iter().all(Result::is_ok));
        digests
    }

    async fn fsck(&self, repair: bool) -> fsck::Report {
        fsck(&self.what, &*self.clock, repair).await.unwrap()
    }

    async fn is_readable(&self, digests: &[Digest]) -> bool {
        self.store.read_batch(digests).await.iter().all(Result::is_ok)
            && self.store.find_missing(digests).await.unwrap().is_empty()
    }
}

/// An index that keeps blobs of up to 100 bytes itself.
fn sql_index(pool: SqlPool) -> (Arc<dyn BlobIndex>, u64) {
    (index(pool, Duration::ZERO), 100)
}

fn totals(blobs: u64) -> Totals {
    Totals { bytes: blobs * 1_000, blobs }
}

/// Makes the test of this name on each pair of a backend and an index.
macro_rules! on_each {
    ($($pair:ident { $($name:ident),* $(,)? })*) => {
        $(mod $pair {
            $(#[tokio::test(flavor = "multi_thread")] async fn $name() { super::$name(super::Fixture::$pair().await).await; })*
        })*
    };
}

macro_rules! all_on_each {
    ($($pair:ident),*) => {
        on_each!($($pair {
            an_inventory_tells_what_is_stored_and_since_when,
            two_that_agree_are_left_as_they_are,
            two_moments_are_brought_into_agreement,
            what_changes_while_it_is_repaired_is_not_counted,
            a_storage_that_fails_leaves_the_index_as_it_was,
            orphans_of_some_age_are_deleted_and_nothing_else,
        })*);
    };
}

all_on_each!(disk_and_sqlite, s3_and_postgres, redis_and_redis, sql_and_postgres, sql_and_sqlite);

async fn an_inventory_tells_what_is_stored_and_since_when(f: Fixture) {
    let mut expected = BTreeSet::new();
    for (seed, function) in (0..40).zip(DigestFunction::ALL.into_iter().cycle()) {
        let (digest, bytes) = blob_of(function, seed, if seed % 10 == 0 { 1_500_000 } else { 700 });
        f.what.storage.write(&digest, pieces(&bytes, 400_000)).await.unwrap();
        expected.insert(digest);
    }
    let backend = &f.what.backends[0];
    let listed: Vec<_> = backend.list().try_concat().await.unwrap();
    assert_eq!(listed.iter().map(|stored| stored.digest).collect::<BTreeSet<_>>(), expected);
    assert_eq!(listed.len(), expected.len(), "each once");
    let now = SystemClock.now();
    assert!(listed.iter().all(|stored| stored.since > now.before(HOUR) && stored.since < now.after(HOUR)));
    let mut asked: Vec<Digest> = expected.iter().take(7).copied().collect();
    asked.push(blob(1_000, 10).0);
    // Another size is another blob.
    asked.push(Digest::new(asked[0].function(), asked[0].hash_bytes(), asked[0].size() + 1).unwrap());
    let stored = backend.stored(&asked).await.unwrap();
    let stored: BTreeSet<_> = stored.into_iter().map(|stored| stored.digest).collect();
    assert_eq!(stored, asked[..7].iter().copied().collect());
}

async fn two_that_agree_are_left_as_they_are(f: Fixture) {
    let digests = Fixture::fill(&f.store, 0..20).await;
    let (small, bytes) = blob(99, 50);
    f.store.write(&small, from_bytes(bytes)).await.unwrap();
    let before = f.what.index.totals().await.unwrap();
    let report = f.fsck(true).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.lost, report.orphans), (totals(0), totals(0)), "{report}");
    assert_eq!(
        report.stored.blobs, report.known.blobs,
        "what the index keeps itself is in neither: {report}"
    );
    assert_eq!(f.what.index.totals().await.unwrap(), before);
    assert!(f.is_readable(&digests).await && f.is_readable(&[small]).await);
}

async fn two_moments_are_brought_into_agreement(f: Fixture) {
    let known = Fixture::fill(&f.store, 0..20).await;
    let orphans = Fixture::fill(&f.what.storage, 20..27).await;
    let (lost, kept) = known.split_at(5);
    assert!(f.what.storage.delete(lost).await.iter().all(Result::is_ok));

    let found = f.fsck(false).await;
    assert_eq!((found.lost, found.orphans, found.stored), (totals(5), totals(7), totals(22)));
    assert!(!found.is_clean() && found.adopted.blobs + found.forgotten.blobs == 0, "{found}");
    assert_eq!(f.what.index.totals().await.unwrap(), totals(20), "nothing is changed by looking");

    let repaired = f.fsck(true).await;
    assert!(repaired.is_clean(), "{repaired}");
    assert_eq!((repaired.forgotten, repaired.adopted), (totals(5), totals(7)));
    assert_eq!(f.store.find_missing(&known).await.unwrap(), lost, "lost blobs are misses");
    assert!(f.is_readable(kept).await && f.is_readable(&orphans).await);
    assert_eq!(f.what.index.totals().await.unwrap(), totals(22));
    let again = f.fsck(true).await;
    assert_eq!((again.lost, again.orphans, again.known), (totals(0), totals(0), totals(22)));
    // And what was lost can come back.
    Fixture::fill(&f.store, 0..5).await;
    assert!(f.is_readable(&known).await);
}

/// A store that something happens to once it was asked what is missing.
#[derive(Debug)]
struct Asked {
    inner: SharedStore,
    times: AtomicU32,
    then: Then,
}

#[derive(Debug)]
enum Then {
    /// It is not there any more.
    Away,
    /// Somebody stores these.
    Stored(Vec<(Digest, bytes::Bytes)>),
    /// Somebody deletes these.
    Deleted(Vec<Digest>),
}

#[async_trait::async_trait]
impl BlobStore for Asked {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let before = self.times.fetch_add(1, Ordering::SeqCst);
        if before > 0 && matches!(self.then, Then::Away) {
            return trees::broken().find_missing(digests).await;
        }
        if let Then::Deleted(these) = &self.then {
            assert!(self.inner.delete(these).await.iter().all(Result::is_ok));
        }
        let missing = self.inner.find_missing(digests).await;
        if let Then::Stored(these) = &self.then {
            assert!(self.inner.write_batch(these.clone()).await.iter().all(Result::is_ok));
        }
        missing
    }
    async fn read(
        &self,
        digest: &Digest,
        range: grid_cas::ByteRange,
    ) -> Result<grid_cas::ByteStream, StoreError> {
        self.inner.read(digest, range).await
    }
    async fn write(&self, digest: &Digest, content: grid_cas::ByteStream) -> Result<(), StoreError> {
        self.inner.write(digest, content).await
    }
    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<bytes::Bytes, StoreError>> {
        self.inner.read_batch(digests).await
    }
    async fn write_batch(&self, blobs: Vec<(Digest, bytes::Bytes)>) -> Vec<Result<(), StoreError>> {
        self.inner.write_batch(blobs).await
    }
    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        self.inner.delete(digests).await
    }
    async fn probe(&self) -> Result<(), StoreError> {
        self.inner.probe().await
    }
}

impl Fixture {
    /// Repairs while something happens to the storage after it was asked this often.
    async fn repair_while(&self, asked: u32, then: Then) -> Result<fsck::Report, StoreError> {
        let inner = self.what.storage.clone();
        let storage: SharedStore = Arc::new(Asked { inner, times: AtomicU32::new(asked), then });
        fsck(&Indexed { storage, ..self.what.clone() }, &*self.clock, true).await
    }
}

async fn what_changes_while_it_is_repaired_is_not_counted(f: Fixture) {
    let known = Fixture::fill(&f.store, 0..4).await;
    assert!(f.what.storage.delete(&known[..2]).await.iter().all(Result::is_ok));
    let report = f.repair_while(0, Then::Stored(vec![blob(0, 1_000)])).await.unwrap();
    assert_eq!((report.lost, report.forgotten), (totals(1), totals(1)), "{report}");
    assert!(report.is_clean() && f.is_readable(&[known[0], known[2], known[3]]).await);
    let orphans = Fixture::fill(&f.what.storage, 10..12).await;
    let report = f.repair_while(0, Then::Deleted(orphans[..1].to_vec())).await.unwrap();
    assert_eq!((report.orphans, report.adopted), (totals(1), totals(1)), "{report}");
    assert!(report.is_clean() && f.is_readable(&orphans[1..]).await);
    assert_eq!(f.what.index.totals().await.unwrap(), totals(4));
}

async fn a_storage_that_fails_leaves_the_index_as_it_was(f: Fixture) {
    let known = Fixture::fill(&f.store, 0..4).await;
    assert!(f.what.storage.delete(&known[..2]).await.iter().all(Result::is_ok));
    f.repair_while(0, Then::Away).await.unwrap_err();
    assert!(f.store.find_missing(&known).await.unwrap().is_empty(), "and claims nothing");
    let orphans = Fixture::fill(&f.what.storage, 10..12).await;
    f.repair_while(1, Then::Away).await.unwrap_err();
    assert!(f.what.index.noted(&orphans).await.unwrap().is_empty());
    assert_eq!(f.what.index.totals().await.unwrap(), totals(4));
    assert!(f.fsck(true).await.is_clean() && f.is_readable(&orphans).await);
}

async fn orphans_of_some_age_are_deleted_and_nothing_else(f: Fixture) {
    let known = Fixture::fill(&f.store, 0..20).await;
    let orphans = Fixture::fill(&f.what.storage, 20..27).await;
    let young = sweep(&f.what, &*f.clock, ABANDONED, &|_, _| {}).await.unwrap();
    assert_eq!((young.young, young.orphans, young.deleted), (totals(7), totals(0), totals(0)), "{young}");
    f.clock.forward(HOUR);
    let dry = janitor::Options { dry_run: true, ..ABANDONED };
    let told = sweep(&f.what, &*f.clock, dry, &|_, _| {}).await.unwrap();
    assert_eq!((told.orphans, told.deleted, told.stored), (totals(7), totals(0), totals(27)), "{told}");
    assert!(f.what.storage.find_missing(&orphans).await.unwrap().is_empty());
    let told = parking_lot::Mutex::new(Vec::new());
    let tell = |orphan: &Digest, age| told.lock().push((*orphan, age));
    let swept = sweep(&f.what, &*f.clock, ABANDONED, &tell).await.unwrap();
    assert_eq!((swept.deleted, swept.failed), (totals(7), totals(0)), "{swept}");
    assert!(
        orphans.iter().all(|orphan| told
            .lock()
            .iter()
            .any(|(digest, age)| digest == orphan && *age >= ABANDONED.min_age))
    );
    assert_eq!(told.lock().len(), 7);
    assert_eq!(f.what.storage.find_missing(&orphans).await.unwrap(), orphans);
    assert!(f.is_readable(&known).await);
    assert_eq!(f.what.index.totals().await.unwrap(), totals(20));
    assert!(f.what.index.noted(&orphans).await.unwrap().is_empty());
    Fixture::fill(&f.store, 20..27).await;
    assert!(f.is_readable(&orphans).await);
}

/// A store whose writers stop once they have stored, until they are let go.
#[derive(Debug)]
struct Gate {
    inner: SharedStore,
    stored: Notify,
    go: Notify,
}

#[async_trait::async_trait]
impl BlobStore for Gate {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.inner.find_missing(digests).await
    }
    async fn read(
        &self,
        digest: &Digest,
        range: grid_cas::ByteRange,
    ) -> Result<grid_cas::ByteStream, StoreError> {
        self.inner.read(digest, range).await
    }
    async fn write(&self, digest: &Digest, content: grid_cas::ByteStream) -> Result<(), StoreError> {
        self.inner.write(digest, content).await?;
        self.stored.notify_one();
        self.go.notified().await;
        Ok(())
    }
    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<bytes::Bytes, StoreError>> {
        self.inner.read_batch(digests).await
    }
    async fn write_batch(&self, blobs: Vec<(Digest, bytes::Bytes)>) -> Vec<Result<(), StoreError>> {
        self.inner.write_batch(blobs).await
    }
    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        self.inner.delete(digests).await
    }
    async fn probe(&self) -> Result<(), StoreError> {
        self.inner.probe().await
    }
}

/// A writer that has stored a blob when a janitor claims it as an orphan, and comes to note it under the claim.
struct Race {
    clock: Arc<Hands>,
    gate: Arc<Gate>,
    index: Arc<dyn BlobIndex>,
    store: SharedStore,
    digest: Digest,
    bytes: bytes::Bytes,
    upload: tokio::task::JoinHandle<Result<(), StoreError>>,
    until: Timestamp,
}

impl Race {
    async fn start(index: Arc<dyn BlobIndex>) -> Self {
        let clock = Hands::new();
        let gate =
            Arc::new(Gate { inner: trees::lru(trees::ROOM), stored: Notify::new(), go: Notify::new() });
        let store = indexed(gate.clone(), index.clone(), clock.clone(), 0);
        let (digest, bytes) = blob(1, 1_000);
        let (writer, content) = (store.clone(), bytes.clone());
        let upload = tokio::spawn(async move { writer.write(&digest, from_bytes(content)).await });
        gate.stored.notified().await;
        let (now, until) = (clock.now(), clock.now().after(HOUR));
        assert_eq!(index.adopt(&[digest], now, until).await.unwrap().len(), 1);
        Self { clock, gate, index, store, digest, bytes, upload, until }
    }

    /// Lets the writer note the blob, and go as far as it gets.
    async fn note(&mut self) {
        let mut looks = self.clock.looks.subscribe();
        let before = *looks.borrow();
        self.gate.go.notify_one();
        // It notes the blob, asks for claims, and asks for them again: then it waits.
        tokio::select! {
            looked = looks.wait_for(|looks| *looks >= before + 3) => drop(looked.unwrap()),
            answer = &mut self.upload => panic!("{answer:?} while the blob may be deleted any moment"),
        }
        assert_eq!(self.store.find_missing(&[self.digest]).await.unwrap(), [self.digest]);
    }

    async fn delete(&self) {
        assert!(self.gate.delete(&[self.digest]).await[0].is_ok());
    }

    /// The blob was deleted: that is said, and it can come again.
    async fn comes_again(self) {
        let answer = self.upload.await.unwrap();
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
        assert_eq!(self.store.find_missing(&[self.digest]).await.unwrap(), [self.digest]);
        self.gate.go.notify_one();
        self.store.write(&self.digest, from_bytes(self.bytes)).await.unwrap();
        assert!(self.store.find_missing(&[self.digest]).await.unwrap().is_empty());
        assert_eq!(self.index.totals().await.unwrap(), totals(1));
    }
}

async fn a_blob_that_is_deleted_before_it_is_noted_is_not_acknowledged(index: Arc<dyn BlobIndex>) {
    let mut race = Race::start(index).await;
    race.delete().await;
    race.note().await;
    // Whoever claimed it died.
    race.clock.forward(HOUR * 2);
    race.comes_again().await;
}

async fn a_blob_that_is_deleted_after_it_is_noted_is_not_acknowledged(index: Arc<dyn BlobIndex>) {
    let mut race = Race::start(index).await;
    race.note().await;
    race.delete().await;
    race.index.forget(&[race.digest], race.until).await.unwrap();
    race.comes_again().await;
}

async fn a_blob_that_is_not_deleted_after_all_is_acknowledged(index: Arc<dyn BlobIndex>) {
    let mut race = Race::start(index).await;
    race.note().await;
    race.index.forget(&[race.digest], race.until).await.unwrap();
    race.upload.await.unwrap().unwrap();
    assert!(race.store.find_missing(&[race.digest]).await.unwrap().is_empty());
    assert_eq!(race.index.totals().await.unwrap(), totals(1));
}

/// Makes the test of this name on each index.
macro_rules! races {
    ($($name:ident),* $(,)?) => {
        mod races_on_postgresql {
            $(#[tokio::test] async fn $name() { super::$name(super::index(super::postgres_pool().await.0, super::Duration::ZERO)).await; })*
        }
        mod races_on_sqlite {
            $(#[tokio::test] async fn $name() {
                let (pool, _folder) = super::sqlite_pool().await;
                super::$name(super::index(pool, super::Duration::ZERO)).await;
            })*
        }
        mod races_on_redis {
            $(#[tokio::test] async fn $name() {
                let index = super::RedisIndex::new(super::redis_server::database().await, "A");
                super::$name(std::sync::Arc::new(index)).await;
            })*
        }
    };
}

races!(
    a_blob_that_is_deleted_before_it_is_noted_is_not_acknowledged,
    a_blob_that_is_deleted_after_it_is_noted_is_not_acknowledged,
    a_blob_that_is_not_deleted_after_all_is_acknowledged,
);
