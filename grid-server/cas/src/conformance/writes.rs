//! Rules about writing.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use grid_core::{Coded, ErrorCode};
use tokio::sync::oneshot;

use super::subject::{Subject, blob, pieces};
use crate::{ByteStream, StoreError};

/// Content that ends early is refused, and nothing is stored.
pub async fn short_content_is_refused(subject: &Subject) {
    for size in [1_000, 3_000_000] {
        let (digest, bytes) = blob(10, size);
        for kept in [0, 1, size - 1] {
            let error = subject.store.write(&digest, pieces(&bytes.slice(..kept), 1_000)).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidArgument, "{error}");
            assert!(!subject.has(&digest).await, "{kept} of {size} bytes were stored");
        }
        subject.put(&digest, &bytes).await;
        assert_eq!(subject.get_all(&digest).await.unwrap(), bytes);
    }
}

/// Content that goes on past its size is refused, and nothing is stored.
pub async fn long_content_is_refused(subject: &Subject) {
    for size in [1_000, 3_000_000] {
        let (digest, bytes) = blob(11, size);
        let longer: Bytes = [&bytes[..], b"x"].concat().into();
        let error = subject.store.write(&digest, pieces(&longer, 1_000)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{error}");
        assert!(!subject.has(&digest).await);
    }
}

/// Where the tree verifies, content of another hash is refused, and nothing is stored under either digest.
pub async fn wrong_content_is_refused(subject: &Subject) {
    for size in [1_000, 3_000_000] {
        let (digest, bytes) = blob(12, size);
        let (other, _) = blob(13, size);
        let error = subject.store.write(&other, pieces(&bytes, 1_000)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{error}");
        assert_eq!(subject.store.find_missing(&[other, digest]).await.unwrap(), [other, digest]);
    }
    let ((good, bytes), (other, _)) = (blob(14, 100), blob(15, 100));
    let answers = subject.store.write_batch(vec![(other, bytes.clone()), (good, bytes)]).await;
    assert_eq!(answers[0].as_ref().unwrap_err().code(), ErrorCode::InvalidArgument);
    assert!(answers[1].is_ok(), "{answers:?}");
    assert_eq!(subject.store.find_missing(&[other, good]).await.unwrap(), [other]);
}

/// A sender that fails in the middle gets its own error back, and nothing is stored.
pub async fn a_sender_that_fails_leaves_nothing(subject: &Subject) {
    for size in [1_000, 3_000_000] {
        let (digest, bytes) = blob(16, size);
        for sent in [0, size / 2, size] {
            let error = StoreError::Interrupted("the client went away".into());
            let content: ByteStream =
                Box::pin(pieces(&bytes.slice(..sent), 1_000).chain(stream::iter([Err(error)])));
            let error = subject.store.write(&digest, content).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::Cancelled, "{error}");
            assert!(!subject.has(&digest).await, "stored though the sender failed after {sent} bytes");
        }
    }
}

/// A write that is dropped in the middle stores nothing, and the blob can be written afterwards.
pub async fn a_cancelled_write_leaves_nothing(subject: &Subject) {
    let (digest, bytes) = blob(17, 3_000_000);
    let (reached, middle) = oneshot::channel();
    let half = pieces(&bytes.slice(..1_500_000), 50_000);
    let tell = stream::once(async move {
        reached.send(()).ok();
        futures::future::pending().await
    });
    let store = subject.store.clone();
    let write = tokio::spawn(async move { store.write(&digest, Box::pin(half.chain(tell))).await });
    middle.await.unwrap();
    write.abort();
    assert!(write.await.unwrap_err().is_cancelled());
    assert!(!subject.has(&digest).await);
    subject.put(&digest, &bytes).await;
    assert_eq!(subject.get_all(&digest).await.unwrap(), bytes);
}

/// Storing what is there succeeds, even where the second sender never gets to the end.
pub async fn writing_again_succeeds(subject: &Subject) {
    let (digest, bytes) = blob(18, 200_000);
    for _ in 0..2 {
        subject.put(&digest, &bytes).await;
        assert!(subject.store.write_batch(vec![(digest, bytes.clone())]).await[0].is_ok());
    }
    assert_eq!(subject.get_all(&digest).await.unwrap(), bytes);
}

/// Many writers of one blob at once, in step with one another, all succeed, and the blob is whole.
pub async fn concurrent_writers_of_one_blob_all_succeed(subject: &Subject) {
    let (digest, bytes) = blob(19, 1_000_000);
    let writes = (0..8).map(|i| {
        let content = pieces(&bytes, 10_000 + i * 1_000).then(|piece| async {
            tokio::task::yield_now().await;
            piece
        });
        subject.store.write(&digest, Box::pin(content))
    });
    for answer in join_all(writes).await {
        answer.unwrap();
    }
    assert_eq!(subject.get_all(&digest).await.unwrap(), bytes);
}

/// A writer that fails late does not take away what another acknowledged meanwhile.
pub async fn a_failing_writer_does_not_harm_another(subject: &Subject) {
    let (digest, bytes) = blob(20, 400_000);
    let (started, begun) = oneshot::channel();
    let (resume, resumed) = oneshot::channel();
    let first = pieces(&bytes.slice(..200_000), 50_000);
    let rest = stream::once(async move {
        started.send(()).ok();
        resumed.await.ok();
        Err(StoreError::Interrupted("the client went away".into()))
    });
    let store = subject.store.clone();
    let failing = tokio::spawn(async move { store.write(&digest, Box::pin(first.chain(rest))).await });
    begun.await.unwrap();
    subject.put(&digest, &bytes).await;
    resume.send(()).unwrap();
    // It may end in its sender's error or, since the blob is there now, in success; but it must end.
    tokio::time::timeout(Duration::from_secs(60), failing).await.unwrap().unwrap().ok();
    assert_eq!(subject.get_all(&digest).await.unwrap(), bytes);
}
