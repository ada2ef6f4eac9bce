//! Rules about reading.

use futures::StreamExt;
use grid_core::{Digest, DigestFunction};

use super::subject::{Subject, blob, blob_of, gather, pieces};
use crate::{ByteRange, StoreError, content};

/// What was stored is there, whole, in both ways of reading.
pub async fn a_blob_comes_back_as_it_went_in(subject: &Subject) {
    for (seed, size) in [(1, 1), (2, 1_000), (3, 70_000)] {
        let (digest, bytes) = blob(seed, size);
        assert!(!subject.has(&digest).await);
        subject.put(&digest, &bytes).await;
        assert!(subject.has(&digest).await);
        assert_eq!(subject.get_all(&digest).await.unwrap(), bytes);
        assert_eq!(subject.store.read_batch(&[digest]).await[0].as_ref().unwrap(), &bytes);
    }
}

/// The empty blob needs no storing, and storing it changes nothing.
pub async fn the_empty_blob_is_always_there(subject: &Subject) {
    let functions: &[_] =
        if subject.all_functions { &DigestFunction::ALL } else { &[DigestFunction::Sha256] };
    for function in functions {
        let empty = Digest::of(*function, b"");
        for _ in 0..2 {
            assert!(subject.has(&empty).await);
            assert!(subject.get_all(&empty).await.unwrap().is_empty());
            assert!(subject.store.read_batch(&[empty]).await[0].as_ref().unwrap().is_empty());
            subject.store.write(&empty, content::from_bytes(bytes::Bytes::new())).await.unwrap();
            let answers = subject.store.write_batch(vec![(empty, bytes::Bytes::new())]).await;
            assert!(answers[0].is_ok(), "{answers:?}");
        }
    }
}

/// A blob that was never stored is `NotFound`, whichever way it is asked for.
pub async fn an_absent_blob_is_not_found(subject: &Subject) {
    let (digest, _) = blob(1, 100);
    let not_found = |error: &StoreError| matches!(error, StoreError::NotFound(d) if *d == digest);
    assert!(not_found(&subject.get_all(&digest).await.unwrap_err()));
    assert!(not_found(subject.store.read_batch(&[digest]).await[0].as_ref().unwrap_err()));
}

/// A blob of many pieces and more than one chunk of any backend comes back whole, in pieces of bounded size.
pub async fn a_large_blob_streams_in_pieces(subject: &Subject) {
    let (digest, bytes) = blob(4, 10_000_019);
    subject.store.write(&digest, pieces(&bytes, 77_777)).await.unwrap();
    let mut stream = subject.store.read(&digest, ByteRange::default()).await.unwrap();
    let mut position = 0;
    while let Some(piece) = stream.next().await {
        let piece = piece.unwrap();
        assert!(piece.len() <= 4 * 1024 * 1024, "a piece of {} bytes", piece.len());
        assert!(bytes[position..].starts_with(&piece), "wrong bytes at {position}");
        position += piece.len();
    }
    assert_eq!(position, bytes.len());
}

/// Offsets and limits give exactly their part, across pieces and chunks, and no more than there is.
pub async fn ranges_give_their_part(subject: &Subject) {
    let (digest, bytes) = blob(5, 5_000_000);
    subject.put(&digest, &bytes).await;
    let size = bytes.len();
    for (offset, limit) in [
        (0, Some(0)),
        (0, Some(1)),
        (1, None),
        (131_071, Some(2)),
        (4_194_303, Some(10)),
        (4_999_999, Some(10)),
        (size, None),
        (size, Some(5)),
        (17, Some(u64::MAX)),
    ] {
        let range = ByteRange { offset: offset as u64, limit };
        let end = limit.map_or(size, |l| usize::try_from(l).unwrap_or(size).saturating_add(offset).min(size));
        assert_eq!(subject.get(&digest, range).await.unwrap(), bytes[offset..end], "{range:?}");
    }
}

/// An offset past the end is an error, not an empty answer.
pub async fn an_offset_past_the_end_is_out_of_range(subject: &Subject) {
    let (digest, bytes) = blob(6, 100);
    subject.put(&digest, &bytes).await;
    let error = subject.get(&digest, ByteRange { offset: 101, limit: None }).await.unwrap_err();
    assert!(matches!(error, StoreError::OutOfRange { offset: 101, .. }), "{error}");
}

/// Functions with hashes of one length, and the same content under several functions, are kept apart.
pub async fn digests_of_different_functions_never_meet(subject: &Subject) {
    for function in DigestFunction::ALL {
        let (digest, bytes) = blob_of(function, 7, 500);
        assert!(!subject.has(&digest).await, "{function} blob was there before it was written");
        subject.put(&digest, &bytes).await;
        assert_eq!(subject.get_all(&digest).await.unwrap(), bytes);
    }
    let (sha, _) = blob_of(DigestFunction::Sha256, 7, 500);
    let same_hash = Digest::new(DigestFunction::Blake3, sha.hash_bytes(), sha.size()).unwrap();
    assert!(!subject.has(&same_hash).await, "a SHA-256 blob answers for a BLAKE3 digest");
}

/// A reader that goes away in the middle leaves the blob and other readers alone.
pub async fn a_dropped_reader_harms_nobody(subject: &Subject) {
    let (digest, bytes) = blob(8, 3_000_000);
    subject.put(&digest, &bytes).await;
    let mut dropped = subject.store.read(&digest, ByteRange::default()).await.unwrap();
    let other = subject.store.read(&digest, ByteRange::default()).await.unwrap();
    dropped.next().await.unwrap().unwrap();
    drop(dropped);
    assert_eq!(gather(other).await.unwrap(), bytes);
}
