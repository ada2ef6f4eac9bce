//! [`Patience`]: when and how often a failed call is made again.

use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::wait;

/// The first pause between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Pauses don't grow past this while a server is away, so that its return is noticed soon.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How calls are tried again. A server that is away is waited for; other failures that may pass are retried a few
/// times; everything else is final at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long to wait for a server that is away, in all.
    pub wait: Duration,
    /// How often to retry what failed for other reasons that may pass (`retries`).
    pub retries: u32,
    /// The longest pause between attempts (`max-backoff`).
    pub max_backoff: Duration,
    /// How long one attempt may take (`request-timeout`); for streams, how long until its first message.
    pub request_timeout: Option<Duration>,
}

impl Default for Patience {
    fn default() -> Self {
        let (wait, max_backoff) = (Duration::from_secs(60), Duration::from_secs(64));
        Self { wait, retries: 3, max_backoff, request_timeout: None }
    }
}

impl Patience {
    /// Makes `call` until it succeeds, fails for good, or patience ends.
    ///
    /// # Errors
    /// The last failure.
    pub async fn call<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut tries = self.tries();
        loop {
            match self.attempt(call()).await {
                Ok(answer) => return Ok(answer),
                Err(status) => tries.pause_after(status).await?,
            }
        }
    }

    /// How long one attempt may take, or a server may stay silent in the middle of one.
    #[must_use]
    pub fn limit(&self) -> Duration {
        wait::answer_limit(self.request_timeout.unwrap_or(self.wait))
    }

    /// One attempt, within the time that it may take.
    ///
    /// # Errors
    /// The call's failure, or `DEADLINE_EXCEEDED`.
    pub async fn attempt<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let limit = self.limit();
        let timed_out = |_| Err(Status::deadline_exceeded(format!("no answer within {limit:?}")));
        tokio::time::timeout(limit, call).await.unwrap_or_else(timed_out)
    }

    /// The book-keeping of a call's attempts, for callers that must do something between them.
    #[must_use]
    pub fn tries(&self) -> Tries {
        Tries { patience: *self, began: Instant::now(), retries: 0, pause: FIRST_PAUSE }
    }
}

/// How much patience a call has used up.
#[derive(Clone, Copy, Debug)]
pub struct Tries {
    patience: Patience,
    began: Instant,
    retries: u32,
    pause: Duration,
}

impl Tries {
    /// Waits as long as is right after this failure, before the next attempt.
    ///
    /// # Errors
    /// The failure itself, where there is to be no next attempt.
    pub async fn pause_after(&mut self, status: Status) -> Result<(), Status> {
        let longest = match kind(&status) {
            Kind::Away => self.patience.max_backoff.min(LONGEST_WAIT),
            Kind::MayPass if self.retries < self.patience.retries => {
                self.retries += 1;
                self.patience.max_backoff
            }
            Kind::MayPass | Kind::Final => return Err(status),
        };
        // Spread, so that those who lost the same server don't come back at the same moment.
        let pause = self.pause.min(longest).mul_f64(rand::rng().random_range(0.5..1.0));
        if self.began.elapsed() + pause > wait::limit(self.patience.wait) {
            return Err(status);
        }
        self.pause = self.pause.mul_f64(1.6);
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Forgets what was used up: there was progress.
    pub fn progressed(&mut self) {
        *self = self.patience.tries();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Away,
    MayPass,
    Final,
}

fn kind(status: &Status) -> Kind {
    match status.code() {
        Code::Unavailable => Kind::Away,
        Code::DeadlineExceeded | Code::Aborted | Code::ResourceExhausted => Kind::MayPass,
        // A connection that broke in mid-call: the server did not say this.
        Code::Unknown | Code::Internal | Code::Cancelled if std::error::Error::source(status).is_some() => {
            Kind::Away
        }
        _ => Kind::Final,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn attempts(status: impl Fn() -> Status) -> (u32, Duration) {
        let (count, began) = (Cell::new(0), Instant::now());
        let call = || {
            count.set(count.get() + 1);
            std::future::ready(Err::<(), _>(status()))
        };
        Patience::default().call(call).await.unwrap_err();
        (count.get(), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_is_waited_for_a_minute() {
        let (count, took) = attempts(|| Status::unavailable("")).await;
        assert!(count > 12, "{count}");
        assert!((50..=60).contains(&took.as_secs()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_hurry_it_is_waited_for_a_moment() {
        let (_, took) = wait::hurried(attempts(|| Status::unavailable(""))).await;
        assert!(took <= Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn other_passing_failures_are_retried_a_few_times_and_final_ones_never() {
        assert_eq!(attempts(|| Status::aborted("")).await.0, 4);
        assert_eq!(attempts(|| Status::not_found("")).await.0, 1);
        assert_eq!(attempts(|| Status::internal("said by the server")).await.0, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_ends() {
        let patience = Patience { request_timeout: Some(Duration::from_secs(2)), ..Patience::default() };
        let hung = patience.attempt(std::future::pending::<Result<(), _>>()).await;
        assert_eq!(hung.unwrap_err().code(), Code::DeadlineExceeded);
    }
}
