//! `!zstd-storage`: what it promises beyond the suite, on each backend that it stands over.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use grid_cas::backends::disk::{Disk, DiskOptions};
use grid_cas::backends::redis::Redis;
use grid_cas::backends::sql::Sql;
use grid_cas::conformance::{Subject, blob, pieces};
use grid_cas::decorators::zstd::Zstd;
use grid_cas::form::Form;
use grid_cas::inventory::Inventory;
use grid_cas::sql::SqlPool;
use grid_cas::{BlobStore, ByteRange, StoreError};
use grid_core::{Digest, DigestFunction, SystemClock};

use super::databases::Hands;
use super::trees::{disk_options, verify};
use super::{redis_server, s3_server};

fn zstd(backend: impl Inventory + 'static) -> Arc<Zstd> {
    Arc::new(Zstd::new(Arc::new(backend), 3, "zstd".into()))
}

async fn disk(path: &Path, max_size: Option<u64>) -> Disk {
    let options = DiskOptions { form: Form::Packed, ..disk_options(path, max_size) };
    Disk::open(options, Arc::new(SystemClock)).await.unwrap()
}

pub(crate) async fn on_disk(max_size: Option<u64>) -> Subject {
    let folder = tempfile::tempdir().unwrap();
    Subject::new(zstd(disk(folder.path(), max_size).await)).keeping(folder)
}

pub(crate) async fn on_redis() -> Subject {
    Subject::new(zstd(Redis::new(redis_server::database().await).in_form(Form::Packed)))
}

pub(crate) async fn on_s3() -> Subject {
    let server = s3_server::Server::start().await;
    server.bucket("main");
    Subject::new(zstd(s3_server::packed(&server).await)).keeping(server)
}

pub(crate) async fn on_sql((pool, folder): (SqlPool, Option<tempfile::TempDir>)) -> Subject {
    Subject::new(zstd(Sql::new(pool, Hands::new(), "sql".into()).in_form(Form::Packed))).keeping(folder)
}

/// Content that shrinks to next to nothing.
fn soft(seed: u8, size: usize) -> (Digest, Bytes) {
    let bytes = Bytes::from(vec![seed; size]);
    (Digest::of(DigestFunction::Sha256, &bytes), bytes)
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn a_limit_counts_what_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let limit = 200_000;
    let subject = Subject::new(zstd(disk(folder.path(), Some(limit)).await)).keeping(());
    let blobs: Vec<_> = (0..10).map(|seed| soft(seed, 1_000_000)).collect();
    for (digest, bytes) in &blobs {
        subject.put(digest, bytes).await;
    }
    for (digest, bytes) in &blobs {
        assert!(subject.get_all(digest).await.unwrap() == *bytes, "ten times the limit, and all are there");
    }
    // What does not shrink drives the others out.
    let (hard, bytes) = blob(1, 190_000);
    subject.put(&hard, &bytes).await;
    let held: u64 = files(&folder.path().join("cas")).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(held <= limit, "{held}");
    let (too_large, bytes) = blob(2, 300_000);
    let refused = subject.store.write(&too_large, pieces(&bytes, 1_000)).await;
    assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_damaged_blob_is_told_as_damaged_and_plain_ones_are_others() {
    let folder = tempfile::tempdir().unwrap();
    let subject = Subject::new(zstd(disk(folder.path(), None).await));
    let (digest, bytes) = soft(1, 300_000);
    subject.put(&digest, &bytes).await;
    let file = files(&folder.path().join("cas")).remove(0);
    let whole = std::fs::read(&file).unwrap();
    for damage in [whole[..whole.len() - 1].to_vec(), [&whole[..], &[0]].concat(), b"no frame".to_vec()] {
        std::fs::write(&file, damage).unwrap();
        let read = subject.get_all(&digest).await;
        assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
    }
    let plain = Disk::open(disk_options(folder.path(), None), Arc::new(SystemClock)).await.unwrap();
    assert_eq!(plain.find_missing(&[digest]).await.unwrap(), [digest]);
}

#[tokio::test]
async fn a_part_of_a_large_blob_is_unpacked_as_far_as_it_goes() {
    let subject = on_disk(None).await;
    let (digest, bytes) = blob(3, 1_000_000);
    subject.put(&digest, &bytes).await;
    for (offset, limit) in [(0, 10), (999_990, 100), (123_456, 654_321), (1_000_000, 5)] {
        let range = ByteRange { offset, limit: Some(limit) };
        let at = usize::try_from(offset).unwrap();
        let end = (at + usize::try_from(limit).unwrap()).min(bytes.len());
        assert!(subject.get(&digest, range).await.unwrap() == bytes.slice(at..end), "{offset}");
    }
}

#[tokio::test]
async fn each_backend_lists_its_packed_blobs_and_keeps_them_after_plain_ones() {
    let folder = tempfile::tempdir().unwrap();
    let server = s3_server::Server::start().await;
    server.bucket("main");
    let (pool, _kept) = super::databases::sqlite_pool().await;
    let stores = [
        zstd(disk(folder.path(), None).await),
        zstd(Redis::new(redis_server::database().await).in_form(Form::Packed)),
        zstd(s3_server::packed(&server).await),
        zstd(Sql::new(pool, Hands::new(), "sql".into()).in_form(Form::Packed)),
    ];
    for store in stores {
        let mut stored: Vec<Digest> = Vec::new();
        for (digest, bytes) in [soft(1, 10), soft(2, 3_000_000), blob(5, 2_000_000)] {
            store.write(&digest, pieces(&bytes, 100_000)).await.unwrap();
            stored.push(digest);
        }
        let pages: Vec<_> = store.list().try_collect().await.unwrap();
        let mut listed: Vec<Digest> = pages.into_iter().flatten().map(|stored| stored.digest).collect();
        listed.sort_unstable();
        stored.sort_unstable();
        assert_eq!(listed, stored, "{store:?}");
        assert_eq!(store.stored(&stored).await.unwrap().len(), 3, "{store:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_uploads_to_s3_keep_nobody_waiting() {
    let server = s3_server::Server::start().await;
    server.bucket("main");
    let store = zstd(s3_server::packed(&server).await);
    let (digest, bytes) = blob(7, 20 << 20);
    let half: Vec<_> = (0..12)
        .map(|seed| {
            let (store, content) = (store.clone(), pieces(&bytes.slice(..1 << 20), 100_000));
            let (digest, _) = soft(seed, 20 << 20);
            tokio::spawn(
                async move { store.write(&digest, Box::pin(content.chain(stream::pending()))).await },
            )
        })
        .collect();
    let subject = Subject::new(verify(store));
    let written = subject.store.write(&digest, pieces(&bytes, 1 << 20));
    tokio::time::timeout(Duration::from_secs(60), written).await.unwrap().unwrap();
    assert!(subject.get_all(&digest).await.unwrap() == bytes);
    half.iter().for_each(tokio::task::JoinHandle::abort);
}
