//! [`Deferred`]: writes to the fallback that are acknowledged before they are made.

use std::sync::Arc;
use std::time::Duration;

use grid_core::{Coded, Digest};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::LABEL;
use crate::content::DigestSet;
use crate::observer::{SharedObserver, StoreEvent};
use crate::{ByteRange, SharedStore, StoreError};

/// How often a deferred write is tried; a store that is away already waits on its own before it fails.
const ATTEMPTS: u32 = 5;
const BACKOFF: Duration = Duration::from_secs(1);

/// The queue. Its bound is on bytes that wait; what finds it full is written at once.
#[derive(Debug)]
pub(super) struct Deferred {
    cache: SharedStore,
    fallback: SharedStore,
    capacity: u64,
    writers: Semaphore,
    queue: Mutex<Queue>,
    observer: SharedObserver,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: DigestSet,
    bytes: u64,
}

/// What became of a blob that was to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queued {
    Waiting,
    Full,
}

impl Deferred {
    pub(super) fn new(
        (cache, fallback): (SharedStore, SharedStore),
        capacity: u64,
        writers: usize,
        observer: SharedObserver,
    ) -> Arc<Self> {
        let (writers, queue) = (Semaphore::new(writers.max(1)), Mutex::default());
        Arc::new(Self { cache, fallback, capacity, writers, queue, observer })
    }

    /// Whether the blob is acknowledged, and waits to be written.
    pub(super) fn holds(&self, digest: &Digest) -> bool {
        self.queue.lock().waiting.contains(digest)
    }

    /// Has a blob that is in the cache written to the fallback, some time soon.
    pub(super) fn push(self: &Arc<Self>, digest: Digest) -> Queued {
        {
            let mut queue = self.queue.lock();
            if queue.waiting.contains(&digest) {
                return Queued::Waiting;
            }
            if queue.bytes.saturating_add(digest.size()) > self.capacity {
                self.observer.event(LABEL, StoreEvent::DeferredQueueFull);
                return Queued::Full;
            }
            queue.waiting.insert(digest);
            queue.bytes += digest.size();
            self.observer.event(LABEL, StoreEvent::Deferred { waiting: queue.bytes });
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            this.write(&digest).await;
            this.remove(&digest);
        });
        Queued::Waiting
    }

    /// Gives up a blob that is deleted.
    pub(super) fn remove(&self, digest: &Digest) {
        let mut queue = self.queue.lock();
        if queue.waiting.remove(digest) {
            queue.bytes -= digest.size();
            self.observer.event(LABEL, StoreEvent::Deferred { waiting: queue.bytes });
        }
    }

    async fn write(&self, digest: &Digest) {
        // Closed never: it goes with us.
        let Ok(_turn) = self.writers.acquire().await else { return };
        for attempt in 1.. {
            if !self.holds(digest) {
                return;
            }
            match self.copy(digest).await {
                Ok(()) => return,
                Err(error) if attempt < ATTEMPTS && error.code().is_transient() => {
                    tokio::time::sleep(BACKOFF * 2_u32.pow(attempt - 1)).await;
                }
                Err(error) => {
                    tracing::error!(%digest, %error, "a deferred write failed; the blob is in the cache alone");
                    self.observer.event(LABEL, StoreEvent::DeferredWriteLost);
                    return;
                }
            }
        }
    }

    /// Writes a blob from the cache to the fallback.
    pub(super) async fn copy(&self, digest: &Digest) -> Result<(), StoreError> {
        let content = self.cache.read(digest, ByteRange::default()).await?;
        self.fallback.write(digest, content).await
    }
}
