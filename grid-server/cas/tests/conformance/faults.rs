//! Faults at each nth call of a store within each decorator: nothing is lost that was acknowledged, and nothing is served that does not match.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use grid_cas::conformance::faulty::{Fault, Faulty};
use grid_cas::conformance::{Subject, blob, pieces};
use grid_cas::index::sql::{self, SqlIndexOptions};
use grid_cas::{SharedStore, StoreError};

use super::databases::{Hands, indexed, sqlite_pool_at};
use super::redis_server;
use super::trees::*;

const FAULTS: [Fault; 3] = [Fault::Before, Fault::After, Fault::Midway];

/// Writes, reads and asks while the `n`th call of one store within fails, for every n until the run is over; then
/// everything that was acknowledged must be there, and whatever is read must match its digest.
async fn survives(name: &str, tree: impl AsyncFn(Arc<Faulty>) -> SharedStore) {
    for fault in FAULTS {
        for n in 1..40 {
            let faulty = Faulty::new(lru(ROOM), fault, n);
            let subject = Subject::new(tree(faulty.clone()).await);
            let acknowledged = load(&subject).await;
            faulty.arm(0);
            for (digest, bytes) in acknowledged {
                let read = subject.get_all(&digest).await;
                assert_eq!(read.unwrap(), bytes, "{name}: lost with {fault:?} at call {n}");
                assert!(subject.has(&digest).await, "{name}: {fault:?} at call {n}");
            }
        }
    }
}

async fn load(subject: &Subject) -> Vec<(grid_core::Digest, bytes::Bytes)> {
    let mut acknowledged = Vec::new();
    for seed in 0..6 {
        let (digest, bytes) = blob(seed, 4_000);
        if subject.store.write(&digest, pieces(&bytes, 1_000)).await.is_ok() {
            acknowledged.push((digest, bytes));
        }
        let batch: Vec<_> = (0..3).map(|i| blob(100 + seed * 3 + i, 500)).collect();
        let answers = subject.store.write_batch(batch.clone()).await;
        acknowledged.extend(batch.into_iter().zip(answers).filter(|(_, a)| a.is_ok()).map(|(blob, _)| blob));
        let digests: Vec<_> = acknowledged.iter().map(|(digest, _)| *digest).collect();
        for (answer, (_, bytes)) in subject.store.read_batch(&digests).await.into_iter().zip(&acknowledged) {
            assert!(answer.as_ref().map_or_else(is_trouble, |read| read == bytes), "{answer:?}");
        }
        match subject.get_all(&digest).await {
            Ok(read) => assert!(digest.matches(&read), "served what does not match"),
            Err(error) => assert!(!digests.contains(&digest) || is_trouble(&error), "{error}"),
        }
        if let Ok(missing) = subject.store.find_missing(&digests).await {
            assert!(missing.is_empty(), "acknowledged blobs said to be missing: {missing:?}");
        }
    }
    acknowledged
}

fn is_trouble(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { .. })
}

/// Makes a test of each tree around a store that fails.
macro_rules! survive {
    ($($name:ident: $tree:expr;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            survives(stringify!($name), $tree).await;
        })*
    };
}

survive! {
    verify_does: async |faulty| verify(faulty);
    metrics_does: async |faulty| metrics(faulty);
    existence_cache_does: async |faulty| existence_cache(faulty);
    redis_fmb_cache_does: async |faulty| fmb_cache(faulty, redis_server::database().await);
    with_cache_does_its_cache: async |faulty| with_cache(faulty, lru(ROOM));
    with_cache_does_its_fallback: async |faulty| with_cache(lru(ROOM), faulty);
    with_a_tiny_cache_does_its_fallback: async |faulty| with_cache(lru(1), faulty);
    with_cache_deferred_does_its_cache: async |faulty| deferred(faulty, lru(ROOM), ROOM);
    with_cache_deferred_does_its_fallback: async |faulty| deferred(lru(ROOM), faulty, ROOM);
    with_cache_deferred_and_full_does: async |faulty| deferred(lru(ROOM), faulty, 600);
    size_differentiated_does: async |faulty| size_differentiated_over(faulty, lru(ROOM));
    sharded_does: async |faulty| sharded_over(vec![faulty, lru(ROOM)]);
    replicated_does_its_first: async |faulty| replicated(faulty, lru(ROOM));
    replicated_does_its_second: async |faulty| replicated(lru(ROOM), faulty);
    sql_index_does: {
        let folder = tempfile::tempdir().unwrap();
        let database = sqlite_pool_at(&folder.path().join("db")).await;
        let number = AtomicU32::new(0);
        async move |faulty| {
            let _with = &folder;
            let store = format!("tree {}", number.fetch_add(1, Ordering::SeqCst));
            let options = SqlIndexOptions { store: store.into(), precision: Duration::ZERO, name: "index".into() };
            indexed(faulty, sql::index(database.clone(), options), Hands::new(), 100)
        }
    };
}
