//! Faults at each nth call: nothing is lost that was acknowledged, and nothing is served that does not match.

use std::sync::Arc;

use grid_cas::conformance::faulty::{Fault, Faulty};
use grid_cas::conformance::{Subject, blob, pieces};
use grid_cas::{SharedStore, StoreError};

use super::trees::*;

const FAULTS: [Fault; 3] = [Fault::Before, Fault::After, Fault::Midway];

/// Writes, reads and asks while the `n`th call of one store within fails, for every n until the run is over; then
/// everything that was acknowledged must be there, and whatever is read must match its digest.
async fn survives(name: &str, tree: impl Fn(Arc<Faulty>) -> SharedStore) {
    for fault in FAULTS {
        for n in 1..40 {
            let faulty = Faulty::new(lru(ROOM), fault, n);
            let subject = Subject::new(tree(faulty.clone()));
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

#[tokio::test]
async fn verify_survives() {
    survives("verify", |faulty| verify(faulty)).await;
}

#[tokio::test]
async fn existence_cache_survives() {
    survives("existence_cache", |faulty| existence_cache(faulty)).await;
}

#[tokio::test]
async fn with_cache_survives_its_cache() {
    survives("cache", |faulty| with_cache(faulty, lru(ROOM))).await;
}

#[tokio::test]
async fn with_cache_survives_its_fallback() {
    survives("fallback", |faulty| with_cache(lru(ROOM), faulty)).await;
    survives("fallback alone", |faulty| with_cache(lru(1), faulty)).await;
}

#[tokio::test]
async fn replicated_survives_each_replica() {
    survives("first", |faulty| replicated(faulty, lru(ROOM))).await;
    survives("second", |faulty| replicated(lru(ROOM), faulty)).await;
}
