//! What only `!disk-storage` promises: its layout, what outlives the process, its limit.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use grid_cas::backends::disk::{Disk, DiskOptions};
use grid_cas::conformance::{blob, blob_of, pieces};
use grid_cas::{BlobStore, ByteRange, StoreError};
use grid_core::{Clock, DigestFunction, SystemClock, Timestamp};

use super::trees::{disk, disk_options};

/// A clock that goes on by a second each time it is read.
#[derive(Debug)]
struct Steps(AtomicI64);

impl Clock for Steps {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.fetch_add(1_000_000, Ordering::SeqCst))
    }
}

async fn open(path: &Path) -> Disk {
    disk(path, None, Arc::new(SystemClock)).await.unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { names.extend(files(&path)) } else { names.push(path.display().to_string()) }
    }
    names
}

#[tokio::test]
async fn blobs_outlive_the_process_in_buildgrids_layout() {
    let folder = tempfile::tempdir().unwrap();
    let blobs: Vec<_> =
        DigestFunction::ALL.into_iter().map(|function| blob_of(function, 1, 300_000)).collect();
    let store = open(folder.path()).await;
    for (digest, bytes) in &blobs {
        store.write(digest, pieces(bytes, 50_000)).await.unwrap();
    }
    drop(store);
    let hash = blobs[0].0.hash_hex();
    let path = folder.path().join("cas/objects").join(&hash[..2]).join(&hash[2..]);
    assert_eq!(fs::read(path).unwrap(), blobs[0].1);
    let again = open(folder.path()).await;
    for (digest, bytes) in &blobs {
        assert_eq!(again.read_batch(&[*digest]).await.remove(0).unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_torn_file_is_absent_and_can_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (digest, bytes) = blob(1, 1_000);
    let hash = digest.hash_hex();
    let path = folder.path().join("cas/objects").join(&hash[..2]).join(&hash[2..]);
    open(folder.path()).await;
    fs::write(&path, &bytes[..999]).unwrap();
    let store = open(folder.path()).await;
    assert_eq!(store.find_missing(&[digest]).await.unwrap(), [digest]);
    let read = store.read(&digest, ByteRange::default()).await.map(drop);
    assert!(matches!(read, Err(StoreError::NotFound(_))), "{read:?}");
    store.write(&digest, pieces(&bytes, 100)).await.unwrap();
    assert_eq!(store.read_batch(&[digest]).await.remove(0).unwrap(), bytes);
}

#[tokio::test]
async fn leftovers_of_uploads_are_removed_and_strangers_files_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    fs::write(temporary.join("grid-left"), b"x").unwrap();
    fs::write(temporary.join("other"), b"x").unwrap();
    open(folder.path()).await;
    assert_eq!(files(&temporary), [temporary.join("other").display().to_string()]);
}

#[tokio::test]
async fn a_refused_upload_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let (digest, bytes) = blob(1, 500_000);
    store.write(&digest, pieces(&bytes.slice(1..), 100_000)).await.unwrap_err();
    assert!(files(folder.path()).is_empty(), "{:?}", files(folder.path()));
}

#[tokio::test]
async fn the_limit_holds_by_evicting_the_oldest() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(Steps(AtomicI64::new(1_000_000_000_000_000)));
    let store = disk(folder.path(), Some(10_000), clock).await.unwrap();
    let blobs: Vec<_> = (0..30).map(|seed| blob(seed, 900)).collect();
    for (digest, bytes) in &blobs {
        store.write(digest, pieces(bytes, 100)).await.unwrap();
        let held: u64 = files(folder.path()).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
        assert!(held <= 10_000, "{held} bytes on the disk");
        // The first blob is used all the time, and so stays.
        assert!(store.find_missing(&[blobs[0].0]).await.unwrap().is_empty());
    }
    let digests: Vec<_> = blobs.iter().map(|(digest, _)| *digest).collect();
    let missing = store.find_missing(&digests).await.unwrap();
    assert_eq!(missing, digests[1..=missing.len()], "not the oldest left");
    let (large, bytes) = blob(99, 10_001);
    let refused = store.write(&large, pieces(&bytes, 1_000)).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { limit: 10_000, .. })), "{refused:?}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = disk(&file, None, Arc::new(SystemClock)).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Refused { .. }) && error.to_string().contains("file/cas/objects"),
        "{error}"
    );
}

/// The disk as a cleaner opens it while another process serves it.
async fn beside(path: &Path) -> Disk {
    let options = DiskOptions { beside: true, ..disk_options(path, None) };
    Disk::open(options, Arc::new(SystemClock)).await.unwrap()
}

#[tokio::test]
async fn what_another_process_deleted_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path()).await;
    let ((one, one_bytes), (two, two_bytes)) = (blob(1, 1_000), blob(2, 300_000));
    let store = async || {
        server.write(&one, pieces(&one_bytes, 100)).await.unwrap();
        server.write_batch(vec![(two, two_bytes.clone())]).await.remove(0).unwrap();
    };
    store().await;
    let cleaner = beside(folder.path()).await;
    assert!(cleaner.find_missing(&[one, two]).await.unwrap().is_empty());
    assert!(cleaner.delete(&[one, two]).await.iter().all(Result::is_ok));
    store().await;
    assert_eq!(
        server.read_batch(&[one, two]).await.into_iter().flatten().collect::<Vec<_>>(),
        [one_bytes, two_bytes]
    );
}

#[tokio::test]
async fn whoever_opens_a_disk_that_is_served_leaves_its_uploads_alone() {
    let folder = tempfile::tempdir().unwrap();
    let server = Arc::new(open(folder.path()).await);
    let (digest, bytes) = blob(1, 600_000);
    let (sender, content) = tokio::sync::mpsc::channel(1);
    let (writer, content) = (Arc::clone(&server), tokio_stream::wrappers::ReceiverStream::new(content));
    let upload = tokio::spawn(async move { writer.write(&digest, Box::pin(content)).await });
    let mut halves = [bytes.slice(..300_000), bytes.slice(300_000..)].into_iter();
    sender.send(Ok(halves.next().unwrap())).await.unwrap();
    // Taken only once the first half is in its file.
    sender.send(Ok(halves.next().unwrap())).await.unwrap();
    drop((beside(folder.path()).await, open(folder.path()).await));
    assert!(!files(&folder.path().join("tmp")).is_empty());
    drop(sender);
    upload.await.unwrap().unwrap();
    assert_eq!(server.read_batch(&[digest]).await.remove(0).unwrap(), bytes);
}
