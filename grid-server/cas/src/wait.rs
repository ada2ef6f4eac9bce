//! [`until_available`]: a call whose dependency is away is held and made again, rather than failed.

use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use crate::StoreError;

/// How long a call waits in all. Callers with less time drop it sooner.
const LIMIT: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Makes `call` again while it says that something is not available, for a minute at most.
///
/// # Errors
/// The last failure.
pub async fn until_available<T, F>(mut call: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let began = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match call().await {
            Err(error @ StoreError::Unavailable { .. }) => error,
            answer => return answer,
        };
        // Spread, so that those who lost the same server don't come back at the same moment.
        let now = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        if began.elapsed() + now > LIMIT {
            return Err(error);
        }
        tokio::time::sleep(now).await;
        pause = pause.mul_f64(1.6).min(LONGEST_PAUSE);
    }
}
