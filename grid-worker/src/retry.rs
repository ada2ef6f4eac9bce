//! Holding a call whose server is away for a while: backoff with jitter, within a budget.
//!
//! Neighbours: every remote call of `cas` goes through [`Retry::run`]; `bot` has its own loop, for a session
//! never gives up. It refuses to retry what can't succeed later.

use std::time::{Duration, Instant};

use tonic::{Code, Status};

/// The first pause.
const FIRST: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(5);

/// Pauses that double, each drawn from its upper half so that workers don't come back all at once.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let upper = self.next;
        self.next = (upper * 2).min(LONGEST);
        upper.mul_f64(rand::random_range(0.5..1.0))
    }
}

/// For how long a failing call is repeated.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// From the first attempt to the start of the last.
    pub budget: Duration,
}

impl Retry {
    /// Repeats `call` while its failure is one that time can heal and the budget lasts.
    ///
    /// # Errors
    /// The last failure.
    pub async fn run<T, F, Fut>(self, name: &'static str, mut call: F) -> Result<T, Status>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        let start = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            let status = match call().await {
                Ok(value) => return Ok(value),
                Err(status) => status,
            };
            if !can_heal(&status) || start.elapsed() >= self.budget {
                return Err(status);
            }
            let pause = backoff.pause();
            tracing::debug!(name, ?pause, %status, "repeating a call");
            tokio::time::sleep(pause).await;
        }
    }
}

/// Whether the same call can succeed later. A connection that broke shows as UNKNOWN, INTERNAL or CANCELLED,
/// depending on where in HTTP/2 it broke.
#[must_use]
pub fn can_heal(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::DeadlineExceeded
        | Code::Cancelled => true,
        Code::Unknown | Code::Internal => std::error::Error::source(status).is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..20).map(|_| backoff.pause()).collect();
        assert!(pauses[0] <= FIRST && pauses[0] >= FIRST / 2);
        assert!(pauses.iter().all(|p| *p <= LONGEST));
        assert!(pauses[19] >= LONGEST / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn repeats_what_can_heal_until_the_budget_is_spent() {
        let retry = Retry { budget: Duration::from_secs(3600) };
        let mut calls = 0;
        let result = retry
            .run("test", || {
                calls += 1;
                let answer = if calls < 5 { Err(Status::unavailable("")) } else { Ok(calls) };
                async { answer }
            })
            .await;
        assert_eq!(result.unwrap(), 5);

        let mut calls = 0;
        let refused = retry
            .run("test", || {
                calls += 1;
                async { Err::<(), _>(Status::not_found("")) }
            })
            .await;
        assert_eq!((refused.unwrap_err().code(), calls), (Code::NotFound, 1));

        let none = Retry { budget: Duration::ZERO };
        assert!(none.run("test", || async { Err::<(), _>(Status::unavailable("")) }).await.is_err());
    }
}
