//! Rules about deleting.

use futures::StreamExt;

use super::subject::{Subject, blob, gather};
use crate::{ByteRange, StoreError};

/// A deleted blob is gone at once, others stay, and it can be stored again.
pub async fn a_deleted_blob_is_gone_and_can_return(subject: &Subject) {
    let ((gone, bytes), (stays, other)) = (blob(40, 1_000), blob(41, 1_000));
    subject.put(&stays, &other).await;
    for _ in 0..2 {
        subject.put(&gone, &bytes).await;
        assert!(subject.store.delete(&[gone]).await[0].is_ok());
        assert_eq!(subject.store.find_missing(&[stays, gone]).await.unwrap(), [gone]);
        assert!(matches!(subject.get_all(&gone).await, Err(StoreError::NotFound(_))));
    }
    assert_eq!(subject.get_all(&stays).await.unwrap(), other);
}

/// One answer for each, in order, and what is absent counts as removed.
pub async fn deleting_what_is_absent_succeeds(subject: &Subject) {
    let ((a, bytes), (b, _)) = (blob(42, 50), blob(43, 50));
    subject.put(&a, &bytes).await;
    let answers = subject.store.delete(&[b, a, b]).await;
    assert_eq!(answers.len(), 3);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(!subject.has(&a).await);
}

/// A reader of a blob that is deleted under it gets the right bytes or an error, never wrong or too few ones.
pub async fn a_reader_survives_a_delete(subject: &Subject) {
    let (digest, bytes) = blob(44, 6_000_000);
    subject.put(&digest, &bytes).await;
    let mut reader = subject.store.read(&digest, ByteRange::default()).await.unwrap();
    let first = reader.next().await.unwrap().unwrap();
    assert!(subject.store.delete(&[digest]).await[0].is_ok());
    if let Ok(rest) = gather(reader).await {
        assert_eq!([first, rest].concat(), bytes);
    }
}
