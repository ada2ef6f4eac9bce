//! Taking over from BuildGrid's tables, and deleting beside it. The tables are as its migrations make them; that the real
//! one writes them so is shown by `grid-server`'s test `import`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use grid_cas::backends::sql::Sql;
use grid_cas::buildgrid::{BuildGrid, import_blobs};
use grid_cas::cleanup::{Policy, clean};
use grid_cas::conformance::blob;
use grid_cas::index::sql::SqlPool;
use grid_cas::index::{BlobIndex, Claim, Totals};
use grid_cas::{SharedStore, StoreError};
use grid_core::{Clock, Digest, DigestFunction};
use sqlx::PgPool;

use super::databases::{Hands, index, indexed};
use super::postgres;
use super::trees::{ROOM, lru};

const HOUR: Duration = Duration::from_secs(3600);
const TABLES: &str = "
CREATE TABLE public.index_metadata (
    id bigserial PRIMARY KEY, size_bytes bigint NOT NULL, hash varchar NOT NULL UNIQUE, kind int NOT NULL DEFAULT 0);
CREATE TABLE public.index_blobs (
    index_id bigint PRIMARY KEY REFERENCES public.index_metadata ON DELETE CASCADE, inline_blob bytea NOT NULL);
CREATE TABLE public.index_access (
    index_id bigint PRIMARY KEY REFERENCES public.index_metadata ON DELETE CASCADE,
    accessed_timestamp timestamp NOT NULL);
CREATE TABLE public.index_blob_chunks (
    index_id bigint PRIMARY KEY REFERENCES public.index_metadata ON DELETE CASCADE, chunk_digests varchar[] NOT NULL);
CREATE TABLE public.blobs (
    digest_hash varchar PRIMARY KEY, digest_size_bytes bigint NOT NULL, data bytea NOT NULL)";
const CONTENT: &str = "
SELECT m.id, m.hash, m.size_bytes, a.accessed_timestamp::text, coalesce(c.chunk_digests, '{}'), length(i.inline_blob)
FROM public.index_metadata m LEFT JOIN public.index_access a ON a.index_id = m.id
LEFT JOIN public.index_blobs i ON i.index_id = m.id LEFT JOIN public.index_blob_chunks c ON c.index_id = m.id ORDER BY m.id";

type Rows = Vec<(i64, String, i64, Option<String>, Vec<String>, Option<i32>)>;

/// A storage that BuildGrid has filled and indexed, and our index of it.
struct Fixture {
    pool: PgPool,
    clock: Arc<Hands>,
    index: Arc<dyn BlobIndex>,
    storage: SharedStore,
    store: SharedStore,
    buildgrid: BuildGrid,
}

impl Fixture {
    async fn new() -> Self {
        let pool = postgres::database().await;
        // Ours are in a schema of their own in a real database; here their names don't meet.
        sqlx::raw_sql(TABLES).execute(&pool).await.unwrap();
        let (clock, storage) = (Hands::new(), lru(ROOM));
        let index = index(SqlPool::Postgres(pool.clone()), Duration::ZERO);
        let store = indexed(storage.clone(), index.clone(), clock.clone(), 100);
        let buildgrid = BuildGrid::new(pool.clone(), "main".into(), "index".into());
        Self { pool, clock, index, storage, store, buildgrid }
    }

    /// A row of BuildGrid's index, last used so long ago.
    async fn row(&self, digest: &Digest, kind: i32, unused: Duration) -> i64 {
        let insert =
            "INSERT INTO public.index_metadata (hash, size_bytes, kind) VALUES ($1, $2, $3) RETURNING id";
        let insert = sqlx::query_scalar(insert).bind(digest.hash_hex()).bind(digest.size_signed()).bind(kind);
        let id = insert.fetch_one(&self.pool).await.unwrap();
        self.use_row(id, unused).await;
        id
    }

    /// BuildGrid notes a use.
    async fn use_row(&self, id: i64, unused: Duration) {
        let note = "INSERT INTO public.index_access VALUES ($1, to_timestamp($2 / 1e6) AT TIME ZONE 'UTC')
            ON CONFLICT (index_id) DO UPDATE SET accessed_timestamp = excluded.accessed_timestamp";
        let note = sqlx::query(note).bind(id).bind(self.clock.now().before(unused).0);
        note.execute(&self.pool).await.unwrap();
    }

    /// Blobs that BuildGrid stored, each used an hour before the next, the last one an hour ago.
    async fn fill(&self, count: u32) -> Vec<(Digest, i64)> {
        let mut filled = Vec::new();
        for seed in 0..count {
            let (digest, bytes) = blob(seed.into(), 1_000);
            assert!(self.storage.write_batch(vec![(digest, bytes)]).await[0].is_ok());
            filled.push((digest, self.row(&digest, 1, HOUR * (count - seed)).await));
        }
        filled
    }

    async fn import(&self) -> grid_cas::buildgrid::Imported {
        self.buildgrid.import(&self.store, &*self.clock, &|_| {}).await.unwrap().unwrap()
    }

    async fn theirs(&self) -> Rows {
        sqlx::query_as(CONTENT).fetch_all(&self.pool).await.unwrap()
    }

    async fn missing(&self, digests: &[Digest]) -> Vec<Digest> {
        self.store.find_missing(digests).await.unwrap()
    }
}

fn totals(blobs: u64) -> Totals {
    Totals { bytes: blobs * 1_000, blobs }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_taken_over_and_stays_as_it_is() {
    let f = Fixture::new().await;
    assert!(!f.buildgrid.is_in_use().await.unwrap(), "an empty index is nobody's");
    let filled = f.fill(5).await;
    let (inline, bytes) = blob(50, 80);
    let id = f.row(&inline, 2, HOUR).await;
    let keep = sqlx::query("INSERT INTO public.index_blobs VALUES ($1, $2)").bind(id).bind(&bytes[..]);
    keep.execute(&f.pool).await.unwrap();
    let strange =
        "INSERT INTO public.index_metadata (hash, size_bytes) VALUES ('no hash', 5), (repeat('a', 64), 0)";
    sqlx::raw_sql(strange).execute(&f.pool).await.unwrap();
    let before = f.theirs().await;

    let done = f.import().await;
    assert_eq!((done.rows, done.unsound, done.new), (8, 2, Totals { bytes: 5_080, blobs: 6 }), "{done}");
    assert_eq!(f.index.totals().await.unwrap(), Totals { bytes: 5_080, blobs: 6 });
    // The oldest by BuildGrid's account goes first.
    let now = f.clock.now();
    let claim = Claim { unused_since: now, large: None, bytes: 1_500, blobs: 9, now, until: now.after(HOUR) };
    let mut claimed = f.index.claim(&claim).await.unwrap();
    claimed.sort_unstable();
    let mut oldest = vec![filled[0].0, filled[1].0];
    oldest.sort_unstable();
    assert_eq!(claimed, oldest);
    f.index.release(&claimed, claim.until).await.unwrap();
    let digests: Vec<Digest> = filled.iter().map(|(digest, _)| *digest).chain([inline]).collect();
    assert!(f.store.read_batch(&digests).await.iter().all(Result::is_ok), "all are served");
    assert_eq!(f.store.read_batch(&[inline]).await[0].as_ref().unwrap(), &bytes);
    assert_eq!(f.theirs().await, before, "BuildGrid's tables are only read");

    let again = f.import().await;
    assert_eq!((again.rows, again.new), (8, Totals::default()));
    assert_eq!(f.index.totals().await.unwrap(), Totals { bytes: 5_080, blobs: 6 });
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_in_chunks_become_whole() {
    let f = Fixture::new().await;
    let (first, a) = blob(1, 1_000);
    let (second, b) = blob(2, 700);
    let (lost, _) = blob(3, 700);
    let stored = f.storage.write_batch(vec![(first, a.clone()), (second, b.clone())]).await;
    assert!(stored.iter().all(Result::is_ok));
    for digest in [first, second, lost] {
        f.row(&digest, 1, HOUR).await;
    }
    let whole: Bytes = [a, b].concat().into();
    let digest = Digest::of(DigestFunction::Sha256, &whole);
    let (other, _) = blob(4, 1_700);
    let (torn, _) = blob(5, 1_701);
    for (blob, chunks) in [(digest, [first, second]), (other, [second, first]), (torn, [first, lost])] {
        let id = f.row(&blob, 3, HOUR).await;
        let chunks: Vec<String> = chunks.iter().map(ToString::to_string).collect();
        let keep = sqlx::query("INSERT INTO public.index_blob_chunks VALUES ($1, $2)").bind(id).bind(chunks);
        keep.execute(&f.pool).await.unwrap();
    }
    let done = f.import().await;
    assert_eq!((done.joined, done.broken), (Totals { bytes: 1_700, blobs: 1 }, 2), "{done}");
    assert_eq!(f.store.read_batch(&[digest]).await[0].as_ref().unwrap(), &whole);
    assert_eq!(f.missing(&[digest, other, torn]).await, [other, torn]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_while_buildgrid_uses_it_unless_from_its_index_too() {
    let f = Fixture::new().await;
    let filled = f.fill(10).await;
    let digests: Vec<Digest> = filled.iter().map(|(digest, _)| *digest).collect();
    f.import().await;
    let refused = f.buildgrid.guard(&f.index, false).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::Refused { message, .. } if message.contains("--shared")),
        "{refused}"
    );

    // A client of BuildGrid is told of the two oldest since, and ours of the third.
    let promised = Duration::from_secs(60);
    f.use_row(filled[0].1, Duration::ZERO).await;
    f.use_row(filled[1].1, Duration::ZERO).await;
    assert!(f.missing(&digests[2..3]).await.is_empty());
    f.clock.forward(promised / 2);
    let shared = f.buildgrid.guard(&f.index, true).await.unwrap();
    let policy = Policy { promised_lifetime: promised, batch_blobs: 2, ..Policy::new(10_000, 5_500, 1_000) };
    let report = clean(&*shared, &f.storage, &policy, &*f.clock, &|_| {}).await.unwrap();
    assert!(report.deleted == totals(5) && report.kept.is_none(), "{report}");
    let (kept, gone) = ([&digests[..3], &digests[8..]].concat(), digests[3..8].to_vec());
    assert_eq!(f.storage.find_missing(&digests).await.unwrap(), gone);
    assert!(f.missing(&kept).await.is_empty());
    let left: Vec<i64> = f.theirs().await.iter().map(|row| row.0).collect();
    let expected: Vec<i64> = filled.iter().filter(|(d, _)| kept.contains(d)).map(|(_, id)| *id).collect();
    assert_eq!(left, expected, "BuildGrid's index names what is left");

    f.buildgrid.finish(f.clock.now()).await.unwrap();
    assert!(!f.buildgrid.is_in_use().await.unwrap());
    let alone = f.buildgrid.guard(&f.index, false).await.unwrap();
    f.clock.forward(HOUR);
    let policy = Policy { promised_lifetime: promised, ..Policy::new(1_000, 0, 10_000) };
    let report = clean(&*alone, &f.storage, &policy, &*f.clock, &|_| {}).await.unwrap();
    assert_eq!(report.after, Totals::default(), "{report}");
    assert_eq!(f.theirs().await.len(), 5, "its tables are no longer touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_buildgrid_alone_knows_is_no_orphan() {
    let f = Fixture::new().await;
    let filled = f.fill(3).await;
    let digests: Vec<Digest> = filled.iter().map(|(digest, _)| *digest).collect();
    let (orphan, _) = blob(99, 1_000);
    let shared = f.buildgrid.guard(&f.index, true).await.unwrap();
    let asked = [&digests[..], &[orphan]].concat();
    assert_eq!(shared.noted(&asked).await.unwrap(), digests.iter().copied().collect());
    assert!(f.index.noted(&asked).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_its_sql_storage_are_copied() {
    let f = Fixture::new().await;
    let into: SharedStore =
        Arc::new(Sql::new(SqlPool::Postgres(f.pool.clone()), f.clock.clone(), "sql".into()));
    let blobs: Vec<_> =
        (0..).zip([10, 70_000, 1_500_000, 6_000_000]).map(|(seed, size)| blob(seed, size)).collect();
    let (wrong, _) = blob(9, 10);
    for (digest, bytes) in blobs.iter().cloned().chain([(wrong, Bytes::from_static(b"0123456789"))]) {
        let insert = sqlx::query("INSERT INTO public.blobs VALUES ($1, $2, $3)").bind(digest.hash_hex());
        insert.bind(digest.size_signed()).bind(&bytes[..]).execute(&f.pool).await.unwrap();
    }
    let done = import_blobs(&f.pool, &"sql".into(), &into).await.unwrap().unwrap();
    assert_eq!((done.rows, done.new.blobs, done.broken), (5, 4, 1), "{done}");
    for (digest, bytes) in &blobs {
        assert_eq!(into.read_batch(&[*digest]).await[0].as_ref().unwrap(), bytes);
    }
    let again = import_blobs(&f.pool, &"sql".into(), &into).await.unwrap().unwrap();
    assert_eq!(again.new, Totals::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_its_tables_or_with_old_ones() {
    let pool = postgres::database().await;
    let buildgrid = BuildGrid::new(pool.clone(), "main".into(), "index".into());
    assert!(!buildgrid.is_in_use().await.unwrap());
    assert_eq!(buildgrid.rows().await.unwrap(), None);
    let store = lru(ROOM);
    assert_eq!(import_blobs(&pool, &"sql".into(), &store).await.unwrap(), None);
    let old =
        "CREATE TABLE public.index_metadata (id bigserial PRIMARY KEY, size_bytes bigint, hash varchar)";
    sqlx::raw_sql(old).execute(&pool).await.unwrap();
    let refused = buildgrid.rows().await.unwrap_err();
    assert!(refused.to_string().contains("bgd migrate apply"), "{refused}");
    assert!(!buildgrid.is_in_use().await.unwrap());
}
