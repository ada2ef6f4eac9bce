//! How long, and at what pauses, what failed for a while is tried again. It knows neither calls nor batches.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::SchedulerError;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);

/// Pauses that double.
#[derive(Debug)]
pub(super) struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Pauses {
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        pause
    }
}

/// Whether doing the same again can succeed.
pub(super) const fn is_passing(error: &SchedulerError) -> bool {
    matches!(error, SchedulerError::Unavailable(_) | SchedulerError::Conflict(_))
}

/// What a caller is told for whom nothing came in time.
pub(super) fn tired() -> SchedulerError {
    SchedulerError::Unavailable("it did not answer in time".into())
}

/// Does what is not batched, again while it fails for a while, until the deadline.
///
/// # Errors
/// The last one.
pub(super) async fn patiently<T, F, R>(deadline: Instant, run: F) -> Result<T, SchedulerError>
where
    F: Fn() -> R,
    R: Future<Output = Result<T, SchedulerError>>,
{
    let mut pauses = Pauses::default();
    loop {
        let pause = pauses.next();
        match timeout_at(deadline, run()).await.unwrap_or_else(|_| Err(tired())) {
            Err(error) if is_passing(&error) && Instant::now() + pause < deadline => sleep(pause).await,
            end => return end,
        }
    }
}
