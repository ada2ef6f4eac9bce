//! [`Faults`]: failures that are the worker's own, told to its health before they are told to the grid.
//!
//! A scheduler gives a failed action to whoever is free, and that is first of all the worker that just failed
//! it. So the worker looks at itself before it reports such a failure, and reports that it takes no work
//! along with it. Neighbours: `execute` raises, `health` looks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// How long a result may wait for the look.
const PATIENCE: Duration = Duration::from_secs(10);

/// Counts and announces faults.
#[derive(Debug)]
pub struct Faults {
    raised: watch::Sender<u64>,
    seen: watch::Sender<u64>,
    in_a_row: AtomicUsize,
}

impl Default for Faults {
    fn default() -> Self {
        Self { raised: watch::Sender::new(0), seen: watch::Sender::new(0), in_a_row: AtomicUsize::new(0) }
    }
}

impl Faults {
    /// Notes a fault and waits until the worker has looked at itself.
    pub async fn raise(&self) {
        self.in_a_row.fetch_add(1, Ordering::Relaxed);
        let mut seen = self.seen.subscribe();
        let mut number = 0;
        self.raised.send_modify(|raised| {
            *raised += 1;
            number = *raised;
        });
        let looked = seen.wait_for(|seen| *seen >= number);
        if tokio::time::timeout(PATIENCE, looked).await.is_err() {
            tracing::warn!("a failure is reported before the worker could look at itself");
        }
    }

    /// Notes an action that did not fail for the worker's reasons.
    pub fn clear(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
    }

    /// How many actions in a row failed for the worker's own reasons.
    #[must_use]
    pub fn in_a_row(&self) -> usize {
        self.in_a_row.load(Ordering::Relaxed)
    }

    /// Announces each fault from now on.
    #[must_use]
    pub fn announcements(&self) -> watch::Receiver<u64> {
        self.raised.subscribe()
    }

    /// The worker has looked at itself after `raised` faults.
    pub fn looked(&self, raised: u64) {
        self.seen.send_replace(raised);
    }
}
