//! Whether this replica may write right now, by its own monotonic clock.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A permission to write that ends by itself.
///
/// The election prolongs it; every write asks it. A replica that was paused finds it over when it wakes up,
/// for it compares with the monotonic clock and not with what it last heard.
#[derive(Clone, Debug)]
pub struct Leadership {
    valid_until: Arc<Mutex<Validity>>,
}

#[derive(Clone, Copy, Debug)]
enum Validity {
    Never,
    Until(Instant),
    Always,
}

impl Leadership {
    /// Of a replica that is not the leader yet.
    #[must_use]
    pub fn none() -> Self {
        Self { valid_until: Arc::new(Mutex::new(Validity::Never)) }
    }

    /// Of a process that runs alone, without an election.
    #[must_use]
    pub fn sole() -> Self {
        Self { valid_until: Arc::new(Mutex::new(Validity::Always)) }
    }

    /// True while writes are allowed.
    #[must_use]
    pub fn is_held(&self) -> bool {
        match *self.valid_until.lock() {
            Validity::Never => false,
            Validity::Until(end) => Instant::now() < end,
            Validity::Always => true,
        }
    }

    pub(crate) fn prolong(&self, end: Instant) {
        *self.valid_until.lock() = Validity::Until(end);
    }

    pub(crate) fn end(&self) {
        *self.valid_until.lock() = Validity::Never;
    }
}
