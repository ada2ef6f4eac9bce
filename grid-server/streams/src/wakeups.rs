//! Waking those who wait for a stream to grow: within the process, and on PostgreSQL across replicas.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::Notify;

/// The PostgreSQL channel; the payload is a stream's name.
pub(crate) const CHANNEL: &str = "grid_logs";

/// Who waits for which stream.
#[derive(Debug, Default)]
pub(crate) struct Wakeups {
    waiting: Mutex<HashMap<String, Weak<Notify>>>,
}

impl Wakeups {
    /// What is notified when `name` changes, for as long as the caller holds it.
    pub(crate) fn watch(&self, name: &str) -> Arc<Notify> {
        let mut waiting = self.waiting.lock();
        if let Some(notify) = waiting.get(name).and_then(Weak::upgrade) {
            return notify;
        }
        // Entries that nobody holds any more go when their number has doubled.
        if waiting.len() == waiting.capacity() {
            waiting.retain(|_, notify| notify.strong_count() > 0);
        }
        let notify = Arc::new(Notify::new());
        waiting.insert(name.to_owned(), Arc::downgrade(&notify));
        notify
    }

    /// Wakes all who wait for `name`.
    pub(crate) fn wake(&self, name: &str) {
        if let Some(notify) = self.waiting.lock().get(name).and_then(Weak::upgrade) {
            notify.notify_waiters();
        }
    }

    fn wake_all(&self) {
        self.waiting.lock().values().filter_map(Weak::upgrade).for_each(|notify| notify.notify_waiters());
    }
}

/// Passes on what other replicas announce, for as long as someone holds the wakeups.
pub(crate) async fn listen(pool: PgPool, wakeups: Weak<Wakeups>) {
    while wakeups.strong_count() > 0 {
        if let Err(error) = relay(&pool, &wakeups).await {
            tracing::warn!(%error, "announcements of log streams are not received; trying again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn relay(pool: &PgPool, wakeups: &Weak<Wakeups>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    // What was announced before is lost: everyone looks.
    if let Some(wakeups) = wakeups.upgrade() {
        wakeups.wake_all();
    }
    loop {
        let announced = tokio::time::timeout(Duration::from_secs(30), listener.try_recv()).await;
        let Some(wakeups) = wakeups.upgrade() else { return Ok(()) };
        match announced {
            Ok(Ok(Some(notification))) => wakeups.wake(notification.payload()),
            // The connection was lost, and is made anew by the next call.
            Ok(Ok(None)) => wakeups.wake_all(),
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
    }
}
