//! [`Drain`]: the grid takes this bot out of service, and says until when what runs may run.
//!
//! The grid gives a bot that drains no more leases; the bot finishes what it has, goes on calling so that its results
//! are taken, and shows that it may be stopped. Neighbours: `session` hears of it, `admin` and `metrics` show it.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::metrics::Metrics;

/// A drain as the grid last told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// When what still runs is taken back.
    pub until: Instant,
    /// Leases that the worker still has: running, or with a result that the grid hasn't taken.
    pub leases: usize,
}

impl Drain {
    /// How long what runs may still run.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Whether a lease that comes now is not worth to be started.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }
}

/// Takes in what an answer says, and shows it.
pub(super) fn note(
    shown: &watch::Sender<Option<Drain>>,
    metrics: &Metrics,
    left: Option<Duration>,
    leases: usize,
) {
    let before = *shown.borrow();
    // The grid counts in whole seconds; a deadline that is known better stands.
    let until = left.map(|left| Instant::now() + left);
    let until = until.map(|until| match before {
        Some(before) if before.until.max(until) - before.until.min(until) <= Duration::from_secs(1) => {
            before.until
        }
        _ => until,
    });
    let now = until.map(|until| Drain { until, leases });
    match (before, now) {
        (None, Some(drain)) => {
            tracing::info!(left = ?drain.left(), leases, "the grid drains this worker: it takes no more work");
        }
        (Some(_), None) => tracing::info!("the grid drains this worker no longer: it takes work again"),
        (Some(before), Some(drain)) if before.leases > 0 && drain.leases == 0 => {
            tracing::info!("drained: nothing runs, and every result is taken; the worker may be stopped");
        }
        _ => {}
    }
    metrics.draining.set(i64::from(now.is_some()));
    let seconds = now.map_or(0, |drain| drain.left().as_secs());
    metrics.drain_seconds.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    shown.send_if_modified(|shown| std::mem::replace(shown, now) != now);
}
