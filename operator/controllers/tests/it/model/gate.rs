//! A write that is held on its way to the API server.

use std::sync::Arc;

use tokio::sync::Notify;

/// A write that is held on its way here: as many writes after now, until it is let in.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    after: usize,
    reached: Arc<Notify>,
    open: Arc<Notify>,
}

impl Gate {
    pub(super) fn new(after: usize) -> Self {
        Self { after, ..Self::default() }
    }

    /// Whether the write that has come goes by.
    pub(super) fn lets_by(&mut self) -> bool {
        let goes_by = self.after > 0;
        self.after = self.after.saturating_sub(1);
        goes_by
    }

    /// Keeps the write that has come until the gate is opened.
    pub(super) async fn hold(self) {
        self.reached.notify_one();
        self.open.notified().await;
    }

    /// Waits until the write is on its way.
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets it in.
    pub(crate) fn open(&self) {
        self.open.notify_one();
    }
}
