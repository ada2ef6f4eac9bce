//! [`Janitor`]: removes the directories of actions, again and again where need be.
//!
//! A directory can't be removed while a process of a killed command still writes into it, or while the runner
//! hasn't yet opened up what the command locked. Neither is a reason to hold up a result, so it happens here,
//! after the fact. Remains of an earlier run are taken over at the start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::fs::CWD;
use tokio::sync::mpsc;

use crate::removal;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Removals under way at once.
const PARALLEL: usize = 2;

/// Takes directories to remove. Cloning is cheap; the work ends with the last clone.
#[derive(Clone, Debug)]
pub struct Janitor {
    sender: mpsc::UnboundedSender<PathBuf>,
    left: Arc<AtomicUsize>,
}

impl Janitor {
    /// Starts removing; must be called in a runtime.
    #[must_use]
    pub fn start() -> Self {
        let (sender, mut receiver) = mpsc::unbounded_channel::<PathBuf>();
        let left = Arc::new(AtomicUsize::new(0));
        let janitor = Self { sender, left: left.clone() };
        tokio::spawn(async move {
            let permits = Arc::new(tokio::sync::Semaphore::new(PARALLEL));
            while let Some(path) = receiver.recv().await {
                let (left, permits) = (left.clone(), permits.clone());
                tokio::spawn(async move {
                    remove(&path, &permits).await;
                    left.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        janitor
    }

    /// Has a directory removed.
    pub fn remove(&self, path: PathBuf) {
        self.left.fetch_add(1, Ordering::Relaxed);
        // It only fails when the runtime is shutting down; the next start finds the directory.
        let _ = self.sender.send(path);
    }

    /// How many directories are still to be removed.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Has everything in `build` removed.
    ///
    /// # Errors
    /// Where the directory can't be read.
    pub fn take_over(&self, build: &Path) -> std::io::Result<()> {
        for entry in std::fs::read_dir(build)? {
            self.remove(entry?.path());
        }
        Ok(())
    }
}

async fn remove(path: &Path, permits: &tokio::sync::Semaphore) {
    let mut pause = FIRST_PAUSE;
    loop {
        let permit = permits.acquire().await;
        let target = path.to_owned();
        let removed = tokio::task::spawn_blocking(move || removal::remove_tree(CWD, &target)).await;
        drop(permit);
        match removed {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                tracing::debug!(path = %path.display(), %error, "can't remove an action's directory yet");
            }
            // The runtime is shutting down.
            Err(_) => return,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
