//! Cleaning an index of a million blobs on PostgreSQL, and what that does to those who ask for blobs meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use grid_cas::SharedStore;
use grid_cas::backends::lru::{Lru, LruOptions};
use grid_cas::cleanup::{Policy, clean};
use grid_cas::index::BlobIndex;
use grid_cas::index::sql::{self, SqlIndexOptions, SqlPool};
use grid_cas::observer::unobserved;
use grid_core::{Clock as _, Digest, DigestFunction, SystemClock};
use grid_scheduler_sql::{Database, testing};

const BLOBS: i64 = 1_000_000;
/// How many digests a question names.
const ASKED: u32 = 100;
const QUESTIONS: usize = 300;

/// Prints the rate, and how long questions take without and beside it.
pub(crate) async fn measure() {
    let Database::Postgres(pool) = testing::postgres().await else { return };
    let fill = "INSERT INTO cas_blobs (store, key, size, accessed)
        SELECT 'main', '\\x01'::bytea || sha256(n::text::bytea), 1000, n FROM generate_series(1, $1) AS n";
    sqlx::query(fill).bind(BLOBS).execute(&pool).await.expect("a million rows");
    let total = "INSERT INTO cas_totals (store, part, bytes, blobs) VALUES ('main', 0, $1 * 1000, $1)";
    sqlx::query(total).bind(BLOBS).execute(&pool).await.expect("their total");
    sqlx::raw_sql("ANALYZE cas_blobs").execute(&pool).await.expect("statistics");
    let options =
        SqlIndexOptions { store: "main".into(), precision: Duration::from_secs(3600), name: "index".into() };
    let index = sql::index(SqlPool::Postgres(pool), options);
    let alone = questions(&*index, QUESTIONS, &AtomicBool::new(false)).await;

    let storage: SharedStore =
        Arc::new(Lru::new(LruOptions { size: 0, name: "nothing".into(), observer: unobserved() }));
    let policy = Policy { batch_blobs: 10_000, ..Policy::new(1, 100_000_000, u64::MAX >> 1) };
    let (began, over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let asking = {
        let (index, over) = (Arc::clone(&index), Arc::clone(&over));
        tokio::spawn(async move { questions(&*index, usize::MAX, &over).await })
    };
    let report = clean(&*index, &storage, &policy, &SystemClock, &|_| {}).await.expect("a report");
    let took = began.elapsed().as_secs_f64();
    over.store(true, Ordering::SeqCst);
    let beside = asking.await.expect("answers");
    println!();
    println!("| cleanup of an index of 1,000,000 blobs on PostgreSQL | measured | wanted |\n|---|---|---|");
    println!(
        "| blobs deleted a second, storage apart | {:.0} | 20,000 |",
        report.deleted.blobs as f64 / took
    );
    println!(
        "| p99 of asking for {ASKED} blobs, alone and beside it | {:.1} ms, {:.1} ms | twice at most |",
        alone.as_secs_f64() * 1e3,
        beside.as_secs_f64() * 1e3
    );
}

/// The p99 of so many questions, or of those that are asked until it is over.
async fn questions(index: &dyn BlobIndex, most: usize, over: &AtomicBool) -> Duration {
    // Of the youngest, which stay.
    let hash = |n: i64| Digest::of(DigestFunction::Sha256, n.to_string().as_bytes());
    let named = |n| Digest::new(DigestFunction::Sha256, hash(n).hash_bytes(), 1_000).expect("a digest");
    let digests: Vec<Digest> = (0..i64::from(ASKED)).map(|n| named(BLOBS - n)).collect();
    let mut took = Vec::new();
    while took.len() < most && !over.load(Ordering::SeqCst) {
        let began = Instant::now();
        let there = index.present(&digests, SystemClock.now()).await.expect("an answer");
        assert_eq!(there.len(), digests.len());
        took.push(began.elapsed());
    }
    took.sort_unstable();
    took.get(took.len() * 99 / 100).copied().unwrap_or_default()
}
