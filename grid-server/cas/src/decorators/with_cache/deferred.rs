//! [`Deferred`]: writes to the fallback that are acknowledged before they are made.
//!
//! The queue is bounded in bytes and in blobs; what finds it full is written before it is acknowledged. It is as durable
//! as the cache that the blobs wait in: over one that outlives the process a [`Journal`] says what is still to be written,
//! and the next process writes it. A process that ends in order waits until the queue is empty.

use std::sync::Arc;
use std::time::Duration;

use grid_core::{Coded, Digest};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};

use super::LABEL;
use super::journal::Journal;
use crate::content::DigestSet;
use crate::observer::{SharedObserver, StoreEvent};
use crate::{ByteRange, SharedStore, StoreError};

/// How long to wait before a write that failed is tried again; longer after each failure.
const BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// How many blobs may wait: each is a task.
const BLOBS: usize = 65_536;

/// The queue.
#[derive(Debug)]
pub(super) struct Deferred {
    cache: SharedStore,
    fallback: SharedStore,
    capacity: u64,
    writers: Semaphore,
    queue: Mutex<Queue>,
    /// How many blobs wait.
    waiting: watch::Sender<usize>,
    /// The copy of some blob came to an end.
    copied: Notify,
    journal: Option<Journal>,
    observer: SharedObserver,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: DigestSet,
    bytes: u64,
    /// What is being copied: a blob that waits, or that was deleted since its copy began.
    copying: DigestSet,
}

impl Deferred {
    pub(super) fn new(
        (cache, fallback): (SharedStore, SharedStore),
        capacity: u64,
        writers: usize,
        journal: Option<Journal>,
        observer: SharedObserver,
    ) -> Arc<Self> {
        let (writers, queue) = (Semaphore::new(writers.max(1)), Mutex::default());
        let (waiting, copied) = (watch::Sender::new(0), Notify::new());
        Arc::new(Self { cache, fallback, capacity, writers, queue, waiting, copied, journal, observer })
    }

    /// Whether the blob is acknowledged, and waits to be written.
    pub(super) fn holds(&self, digest: &Digest) -> bool {
        self.queue.lock().waiting.contains(digest)
    }

    /// Has blobs that are in the cache written to the fallback, some time soon; gives those for which there is no room, and
    /// which must be [`Deferred::made`] before they are acknowledged.
    pub(super) async fn push(self: &Arc<Self>, digests: Vec<Digest>) -> Vec<Digest> {
        // Noted first, each by every writer: who finds it waiting acknowledges it too.
        if let Some(journal) = &self.journal
            && let Err(error) = journal.note(digests.clone()).await
        {
            tracing::error!(%error, "writes can't be deferred");
            return digests;
        }
        let (mut taken, mut full) = (Vec::new(), Vec::new());
        {
            let mut queue = self.queue.lock();
            for digest in digests {
                let bytes = queue.bytes.saturating_add(digest.size());
                if queue.waiting.contains(&digest) {
                    continue;
                }
                if bytes > self.capacity || queue.waiting.len() >= BLOBS {
                    full.push(digest);
                } else {
                    self.enter(&mut queue, digest);
                    taken.push(digest);
                }
            }
        }
        full.iter().for_each(|_| self.observer.event(LABEL, StoreEvent::DeferredQueueFull));
        self.start(taken);
        full
    }

    /// Notes that a blob is in the fallback.
    pub(super) async fn made(&self, digest: Digest) {
        if let Some(journal) = &self.journal {
            journal.strike(digest).await;
        }
    }

    /// Makes the writes that the process before did not come to.
    pub(super) async fn replay(self: &Arc<Self>) -> Result<(), StoreError> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let left = journal.left().await?;
        if !left.is_empty() {
            tracing::info!(blobs = left.len(), "writing what was acknowledged before the last process ended");
        }
        {
            let mut queue = self.queue.lock();
            left.iter().for_each(|digest| self.enter(&mut queue, *digest));
        }
        self.start(left);
        Ok(())
    }

    /// Gives up a blob that is to be deleted; a copy of it that has begun would bring it back, and is waited for.
    pub(super) async fn give_up(&self, digest: &Digest) {
        self.remove(digest).await;
        loop {
            let copied = self.copied.notified();
            if !self.queue.lock().copying.contains(digest) {
                return;
            }
            copied.await;
        }
    }

    async fn remove(&self, digest: &Digest) {
        if self.holds(digest) {
            self.made(*digest).await;
            self.leave(digest);
        }
    }

    /// Waits until nothing waits.
    pub(super) async fn settled(&self) {
        self.waiting.subscribe().wait_for(|waiting| *waiting == 0).await.ok();
    }

    fn enter(&self, queue: &mut Queue, digest: Digest) {
        if queue.waiting.insert(digest) {
            queue.bytes += digest.size();
            self.tell(queue);
        }
    }

    fn leave(&self, digest: &Digest) {
        let mut queue = self.queue.lock();
        if queue.waiting.remove(digest) {
            queue.bytes -= digest.size();
            self.tell(&queue);
        }
    }

    fn tell(&self, queue: &Queue) {
        self.observer.event(LABEL, StoreEvent::Deferred { waiting: queue.bytes });
        self.waiting.send_replace(queue.waiting.len());
    }

    fn start(self: &Arc<Self>, digests: Vec<Digest>) {
        for digest in digests {
            let this = Arc::clone(self);
            tokio::spawn(async move {
                if this.write(&digest).await {
                    this.remove(&digest).await;
                } else {
                    // It stays noted: the next process tries again.
                    this.leave(&digest);
                }
            });
        }
    }

    /// Whether the write is made, or needs to be made no longer.
    async fn write(&self, digest: &Digest) -> bool {
        let mut pause = BACKOFF;
        loop {
            // Closed never: it goes with us.
            let Ok(turn) = self.writers.acquire().await else { return false };
            if !self.begin(digest).await {
                return true;
            }
            let copied = self.copy(digest).await;
            self.queue.lock().copying.remove(digest);
            self.copied.notify_waiters();
            match copied {
                Ok(()) => return true,
                // A fallback that is away is waited for as long as it takes: the blob is acknowledged.
                Err(error) if error.code().is_transient() => {
                    drop(turn);
                    tracing::warn!(%digest, %error, "a deferred write failed; it is tried again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_BACKOFF);
                }
                Err(error) => {
                    let is_gone = matches!(error, StoreError::NotFound(_));
                    tracing::error!(%digest, %error, "a deferred write failed; the blob is in the cache at most");
                    self.observer.event(LABEL, StoreEvent::DeferredWriteLost);
                    return is_gone;
                }
            }
        }
    }

    /// Notes that a blob is being copied; false where it waits no longer. One that was deleted and stored again meanwhile
    /// may still be copied from before: then that ends first.
    async fn begin(&self, digest: &Digest) -> bool {
        loop {
            let copied = self.copied.notified();
            {
                let mut queue = self.queue.lock();
                if !queue.waiting.contains(digest) {
                    return false;
                }
                if queue.copying.insert(*digest) {
                    return true;
                }
            }
            copied.await;
        }
    }

    /// Writes a blob from the cache to the fallback.
    pub(super) async fn copy(&self, digest: &Digest) -> Result<(), StoreError> {
        let content = self.cache.read(digest, ByteRange::default()).await?;
        self.fallback.write(digest, content).await
    }
}
