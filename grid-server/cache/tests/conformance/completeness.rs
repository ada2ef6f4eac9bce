//! A result is given only while each blob that it names is there, and asking keeps them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use grid_cache::conformance::action;
use grid_cache::observer::{CacheEvent, CacheObserver, unobserved};
use grid_cache::{CacheError, SharedCache};
use grid_cas::SharedStore;
use grid_cas::conformance::faulty::Broken;
use grid_cas::decorators::metrics::Metrics;
use grid_cas::observer::{Method, StoreEvent, StoreObserver};
use grid_core::{Digest, DigestFunction};
use grid_proto::reapi::{
    self, ActionResult, Directory, DirectoryNode, FileNode, OutputDirectory, OutputFile, Tree,
};
use parking_lot::Mutex;
use prost::Message;

use super::trees::*;

#[derive(Debug, Default)]
struct Notes {
    cache: Mutex<Vec<CacheEvent>>,
    store: Mutex<Vec<Method>>,
}

impl CacheObserver for Notes {
    fn event(&self, event: CacheEvent) {
        self.cache.lock().push(event);
    }
}

impl StoreObserver for Notes {
    fn event(&self, _: &'static str, event: StoreEvent) {
        if let StoreEvent::Call { method, took, .. } = event {
            assert!(took < Duration::MAX);
            self.store.lock().push(method);
        }
    }
}

fn wire(digest: &Digest) -> Option<reapi::Digest> {
    Some(reapi::Digest { hash: digest.hash_hex(), size_bytes: digest.size_signed() })
}

async fn put(storage: &SharedStore, bytes: impl Into<Bytes>) -> Digest {
    let bytes = bytes.into();
    let digest = Digest::of(DigestFunction::Sha256, &bytes);
    storage.write_batch(vec![(digest, bytes)]).await.remove(0).unwrap();
    digest
}

fn file(name: &str, digest: &Digest) -> FileNode {
    FileNode { name: name.into(), digest: wire(digest), ..Default::default() }
}

/// A result with a file, stdout, stderr, a tree with a file at its root and one in a subdirectory, and a directory
/// given by its root alone; and all the blobs that it needs.
async fn result(storage: &SharedStore) -> (ActionResult, Vec<Digest>) {
    let mut blobs = Vec::new();
    for name in ["file", "stdout", "stderr", "in root", "in child", "deep"] {
        blobs.push(put(storage, name.as_bytes()).await);
    }
    let child = Directory { files: vec![file("b", &blobs[4])], ..Default::default() };
    let tree = Tree {
        root: Some(Directory { files: vec![file("a", &blobs[3])], ..Default::default() }),
        children: vec![child],
    };
    let tree = put(storage, tree.encode_to_vec()).await;
    let below = Directory { files: vec![file("deep", &blobs[5])], ..Default::default() };
    let below = put(storage, below.encode_to_vec()).await;
    let node = |name: &str| DirectoryNode { name: name.into(), digest: wire(&below) };
    let root = Directory { directories: vec![node("x"), node("y")], ..Default::default() };
    let root = put(storage, root.encode_to_vec()).await;
    let result = ActionResult {
        output_files: vec![OutputFile { path: "f".into(), digest: wire(&blobs[0]), ..Default::default() }],
        stdout_digest: wire(&blobs[1]),
        stderr_digest: wire(&blobs[2]),
        output_directories: vec![
            OutputDirectory { path: "d".into(), tree_digest: wire(&tree), ..Default::default() },
            OutputDirectory { path: "e".into(), root_directory_digest: wire(&root), ..Default::default() },
        ],
        ..Default::default()
    };
    blobs.extend([tree, root, below]);
    (result, blobs)
}

#[tokio::test]
async fn each_missing_blob_hides_the_result_and_its_return_shows_it() {
    let (storage, notes) = (storage(), Arc::new(Notes::default()));
    let (result, blobs) = result(&storage).await;
    for warm in [false, true] {
        for missing in &blobs {
            let cache = complete_in(lru(), storage.clone(), notes.clone());
            cache.update(&action(1), &result).await.unwrap();
            if warm {
                assert_eq!(cache.get(&action(1)).await.unwrap().as_ref(), Some(&result));
            }
            let bytes = storage.read_batch(&[*missing]).await.remove(0).unwrap();
            storage.delete(&[*missing]).await.remove(0).unwrap();
            assert_eq!(cache.get(&action(1)).await.unwrap(), None, "{missing} is gone");
            assert_eq!(notes.cache.lock().last(), Some(&CacheEvent::Incomplete));
            storage.write_batch(vec![(*missing, bytes)]).await.remove(0).unwrap();
            assert_eq!(cache.get(&action(1)).await.unwrap().as_ref(), Some(&result));
            assert_eq!(notes.cache.lock().last(), Some(&CacheEvent::Hit));
        }
    }
}

#[tokio::test]
async fn a_repeated_hit_costs_one_existence_batch() {
    let (inner, notes) = (storage(), Arc::new(Notes::default()));
    let (result, _) = result(&inner).await;
    let storage: SharedStore = Arc::new(Metrics::new(inner, "lru", notes.clone()));
    let cache = complete_in(lru(), storage, unobserved());
    cache.update(&action(1), &result).await.unwrap();
    cache.get(&action(1)).await.unwrap().unwrap();
    notes.store.lock().clear();
    cache.get(&action(1)).await.unwrap().unwrap();
    assert_eq!(*notes.store.lock(), [Method::BulkStat]);
}

#[tokio::test]
async fn a_tree_that_is_none_hides_the_result() {
    let storage = storage();
    let junk = put(&storage, vec![0xff; 40]).await;
    let cache = complete_in(lru(), storage, unobserved());
    for directory in [
        OutputDirectory { tree_digest: wire(&junk), ..Default::default() },
        OutputDirectory { root_directory_digest: wire(&junk), ..Default::default() },
    ] {
        let result = ActionResult { output_directories: vec![directory], ..Default::default() };
        cache.update(&action(1), &result).await.unwrap();
        assert_eq!(cache.get(&action(1)).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_malformed_digest_is_a_damaged_entry() {
    let cache = complete(lru());
    let digest = Some(reapi::Digest { hash: "abc".into(), size_bytes: 1 });
    let result = ActionResult { stdout_digest: digest, ..Default::default() };
    cache.update(&action(1), &result).await.unwrap();
    assert!(matches!(cache.get(&action(1)).await, Err(CacheError::Corrupt(_))));
}

#[tokio::test]
async fn a_storage_that_is_away_is_trouble_and_no_miss() {
    let (result, _) = result(&storage()).await;
    let cache: SharedCache = complete_in(lru(), Arc::new(Broken), unobserved());
    cache.update(&action(1), &result).await.unwrap();
    assert!(matches!(cache.get(&action(1)).await, Err(CacheError::Store(_))));
}
