//! Rules about calls that name several blobs.

use bytes::Bytes;
use grid_core::{Coded, Digest, ErrorCode};

use super::subject::{Subject, blob};
use crate::StoreError;

/// The missing ones come in the order asked, each once; the empty blob is never among them.
pub async fn what_is_missing_comes_in_order_and_once(subject: &Subject) {
    let (there, bytes) = blob(30, 10);
    subject.put(&there, &bytes).await;
    let (a, b, c) = (blob(31, 10).0, blob(32, 11).0, blob(33, 12).0);
    let empty = Digest::of(there.function(), b"");
    let asked = [c, there, a, empty, c, b, a, there];
    assert_eq!(subject.store.find_missing(&asked).await.unwrap(), [c, a, b]);
    assert!(subject.store.find_missing(&[]).await.unwrap().is_empty());
}

/// Thousands of digests in a call, half of them there.
pub async fn many_digests_are_answered_in_one_call(subject: &Subject) {
    let blobs: Vec<_> = (0..2_100).map(|i| blob(1_000 + i, 20)).collect();
    let stored: Vec<_> = blobs.iter().step_by(2).cloned().collect();
    assert!(subject.store.write_batch(stored).await.iter().all(Result::is_ok));
    let digests: Vec<_> = blobs.iter().map(|(digest, _)| *digest).collect();
    let missing: Vec<_> = digests.iter().skip(1).step_by(2).copied().collect();
    assert_eq!(subject.store.find_missing(&digests).await.unwrap(), missing);
    let read = subject.store.read_batch(&digests).await;
    assert_eq!(read.len(), digests.len());
    for ((digest, bytes), answer) in blobs.iter().zip(read) {
        match answer {
            Ok(content) => assert!(!missing.contains(digest) && content == bytes),
            Err(error) => assert!(missing.contains(digest), "{error}"),
        }
    }
}

/// A batch read answers each digest in its place: absent ones, repeated ones, and large beside small.
pub async fn a_batch_answers_each_in_order(subject: &Subject) {
    let ((small, s), (large, l), (absent, _)) = (blob(34, 10), blob(35, 3_000_000), blob(36, 10));
    subject.put(&small, &s).await;
    subject.put(&large, &l).await;
    let answers = subject.store.read_batch(&[large, absent, small, absent, large, small]).await;
    let got: Vec<Option<&Bytes>> = answers.iter().map(|a| a.as_ref().ok()).collect();
    assert_eq!(got, [Some(&l), None, Some(&s), None, Some(&l), Some(&s)]);
    assert!(matches!(&answers[1], Err(StoreError::NotFound(d)) if *d == absent));
}

/// A batch write refuses the blob whose length is wrong and stores the others; the same blob twice is no trouble.
pub async fn a_batch_write_fails_blob_by_blob(subject: &Subject) {
    let ((a, a_bytes), (b, b_bytes), (c, c_bytes)) = (blob(37, 100), blob(38, 200), blob(39, 1_500_000));
    let batch = vec![
        (a, a_bytes.clone()),
        (b, b_bytes.slice(1..)),
        (c, c_bytes.clone()),
        (a, a_bytes.clone()),
        (c, Bytes::new()),
    ];
    let answers = subject.store.write_batch(batch).await;
    let ok: Vec<_> = answers.iter().map(Result::is_ok).collect();
    // What is there already may be acknowledged without a look at the content.
    assert_eq!(ok[..4], [true, false, true, true], "{answers:?}");
    assert_eq!(answers[1].as_ref().unwrap_err().code(), ErrorCode::InvalidArgument);
    assert_eq!(subject.store.find_missing(&[a, b, c]).await.unwrap(), [b]);
    assert_eq!(subject.get_all(&a).await.unwrap(), a_bytes);
    assert_eq!(subject.get_all(&c).await.unwrap(), c_bytes);
}

/// Calls that name nothing do nothing.
pub async fn an_empty_batch_is_no_trouble(subject: &Subject) {
    assert!(subject.store.read_batch(&[]).await.is_empty());
    assert!(subject.store.write_batch(Vec::new()).await.is_empty());
    if subject.deletes {
        assert!(subject.store.delete(&[]).await.is_empty());
    }
}
