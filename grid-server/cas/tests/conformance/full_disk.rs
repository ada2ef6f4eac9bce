//! A disk without room: `!disk-storage` on a small file system of the test's own, which takes root to mount.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use grid_cas::conformance::{blob, pieces};
use grid_cas::{BlobStore, StoreError};
use grid_core::{Coded, ErrorCode, SystemClock};

use super::trees::disk;

/// A file system of 4 MiB in memory, unmounted when it is dropped.
struct Small(tempfile::TempDir);

impl Small {
    /// `None`, and a word why, where nothing can be mounted.
    #[allow(clippy::print_stderr, reason = "that a test was skipped is for whoever runs it")]
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(folder.path());
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self(folder)),
            Ok(output) => {
                eprintln!("skipped, for it takes root: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("skipped, for there is no `mount`: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a failed test may have files open.
        Command::new("umount").arg("-l").arg(self.path()).status().ok();
    }
}

fn is_full(answer: &Result<(), StoreError>) -> bool {
    let full =
        |error: &StoreError| error.code() == ErrorCode::ResourceExhausted && error.retry_after().is_some();
    answer.as_ref().err().is_some_and(full)
}

#[tokio::test]
async fn a_full_disk_refuses_new_blobs_and_keeps_the_old_ones() {
    let Some(small) = Small::mount() else { return };
    let store = disk(small.path(), None, Arc::new(SystemClock)).await.unwrap();
    let mut kept = Vec::new();
    let refused = loop {
        let (digest, bytes) = blob(kept.len() as u64, 300_000);
        match store.write(&digest, pieces(&bytes, 50_000)).await {
            Ok(()) => kept.push((digest, bytes)),
            answer => {
                assert!(is_full(&answer), "{answer:?}");
                break (digest, bytes);
            }
        }
    };
    assert!((5..14).contains(&kept.len()), "{}", kept.len());
    let batch = store.write_batch(vec![refused.clone()]).await;
    assert!(is_full(&batch[0]), "{batch:?}");
    assert_eq!(store.find_missing(&[refused.0]).await.unwrap(), [refused.0], "it is torn");
    let digests: Vec<_> = kept.iter().map(|(digest, _)| *digest).collect();
    for (read, (_, bytes)) in store.read_batch(&digests).await.into_iter().zip(&kept) {
        assert_eq!(&read.unwrap(), bytes);
    }
    // Room is made, and nothing of what failed takes any of it.
    assert!(store.delete(&digests[..1]).await[0].is_ok());
    store.write(&refused.0, pieces(&refused.1, 50_000)).await.unwrap();
    assert_eq!(store.read_batch(&[refused.0]).await.remove(0).unwrap(), refused.1);
    drop(store);
    let again = disk(small.path(), None, Arc::new(SystemClock)).await.unwrap();
    assert_eq!(again.find_missing(&digests).await.unwrap(), digests[..1]);
}
