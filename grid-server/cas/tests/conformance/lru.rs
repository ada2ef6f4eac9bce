//! What only `!lru-storage` promises: its limit, kept by eviction.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use grid_cas::backends::lru::{Lru, LruOptions};
use grid_cas::conformance::{blob, pieces};
use grid_cas::observer::unobserved;
use grid_cas::{BlobStore, ByteRange, StoreError};
use proptest::prelude::*;

fn store(size: u64) -> Lru {
    Lru::new(LruOptions { size, name: "storages[0] !lru-storage".into(), observer: unobserved() })
}

#[tokio::test]
async fn the_least_recently_used_leave_first_and_writes_never_fail() {
    let lru = store(1_000);
    let blobs: Vec<_> = (0..10).map(|i| blob(i, 100)).collect();
    assert!(lru.write_batch(blobs.clone()).await.iter().all(Result::is_ok));
    // Uses of each kind keep the first three.
    lru.find_missing(&[blobs[0].0]).await.unwrap();
    lru.read(&blobs[1].0, ByteRange::default()).await.map(drop).unwrap();
    lru.read_batch(&[blobs[2].0]).await.remove(0).unwrap();
    let (digest, bytes) = blob(11, 650);
    lru.write(&digest, pieces(&bytes, 10)).await.unwrap();
    let all: Vec<_> = blobs.iter().map(|(digest, _)| *digest).chain([digest]).collect();
    assert_eq!(lru.find_missing(&all).await.unwrap(), all[3..10]);
    assert_eq!(lru.held(), 950);
}

#[tokio::test]
async fn a_blob_larger_than_the_limit_is_refused_by_name() {
    let lru = store(100);
    let (digest, bytes) = blob(1, 101);
    for answer in
        [lru.write(&digest, pieces(&bytes, 10)).await, lru.write_batch(vec![(digest, bytes)]).await.remove(0)]
    {
        assert!(matches!(answer, Err(StoreError::TooLarge { limit: 100, .. })), "{answer:?}");
    }
    assert_eq!(lru.held(), 0);
}

#[tokio::test]
async fn unfinished_uploads_count_and_give_back_their_bytes() {
    let lru = Arc::new(store(1_000));
    let (old, bytes) = blob(1, 600);
    lru.write(&old, pieces(&bytes, 100)).await.unwrap();
    let (digest, bytes) = blob(2, 800);
    let (reached, middle) = tokio::sync::oneshot::channel();
    let half = pieces(&bytes.slice(..500), 100).chain(futures::stream::once(async {
        reached.send(()).ok();
        futures::future::pending().await
    }));
    let upload = tokio::spawn({
        let lru = Arc::clone(&lru);
        async move { lru.write(&digest, Box::pin(half)).await }
    });
    middle.await.unwrap();
    assert_eq!(lru.held(), 500, "the upload evicted the old blob and holds what came");
    let (other, bytes) = blob(3, 600);
    let full = lru.write(&other, pieces(&bytes, 600)).await;
    assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
    upload.abort();
    upload.await.ok();
    assert_eq!(lru.held(), 0);
}

#[tokio::test]
async fn a_reader_keeps_what_is_evicted_under_it() {
    let lru = store(400_000);
    let (digest, bytes) = blob(1, 400_000);
    lru.write(&digest, pieces(&bytes, 1_000)).await.unwrap();
    let mut reader = lru.read(&digest, ByteRange::default()).await.unwrap();
    let mut got = reader.next().await.unwrap().unwrap().to_vec();
    let (other, other_bytes) = blob(2, 10);
    lru.write(&other, pieces(&other_bytes, 10)).await.unwrap();
    assert_eq!(lru.find_missing(&[digest]).await.unwrap(), [digest]);
    while let Some(piece) = reader.next().await {
        got.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(Bytes::from(got), bytes);
}

proptest! {
    /// Against a list in order of use: the limit holds after each call, and exactly the oldest are gone.
    #[test]
    fn eviction_follows_the_model(calls in prop::collection::vec((0_u64..20, any::<bool>()), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let lru = store(1_000);
            let size = |number: u64| 40 + usize::try_from(number).unwrap() * 10;
            let mut model: Vec<u64> = Vec::new();
            for (number, write) in calls {
                let (digest, bytes) = blob(number, size(number));
                let known = model.iter().position(|n| *n == number).map(|i| model.remove(i));
                if write {
                    lru.write(&digest, pieces(&bytes, 33)).await.unwrap();
                } else {
                    let missing = lru.find_missing(&[digest]).await.unwrap();
                    prop_assert_eq!(missing.is_empty(), known.is_some());
                }
                if write || known.is_some() {
                    model.push(number);
                }
                while model.iter().map(|n| size(*n)).sum::<usize>() > 1_000 {
                    model.remove(0);
                }
                prop_assert_eq!(lru.held(), model.iter().map(|n| size(*n) as u64).sum::<u64>());
            }
            Ok(())
        })?;
    }
}
