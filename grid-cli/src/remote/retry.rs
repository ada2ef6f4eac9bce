//! When a call is worth another try, and how long to wait before it.
//!
//! The server's `RetryInfo` decides where there is one; otherwise only UNAVAILABLE passes by itself. All
//! calls of this client can be repeated: they are reads, or writes of content under its own digest, or
//! requests that the server joins (Execute of the same action).

use std::future::Future;
use std::time::Duration;

use grid_proto::{any, rpc};
use prost::Message as _;
use tonic::{Code, Status};

/// The wait before the second try; doubles with each further one.
const FIRST: Duration = Duration::from_millis(200);
/// The longest wait that this client chooses.
const LONGEST: Duration = Duration::from_secs(15);
/// The longest wait that it lets a server choose.
const LONGEST_TOLD: Duration = Duration::from_secs(120);

/// How often, and when, to try again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    retries: u32,
}

impl Retry {
    /// At most `retries` tries after the first.
    pub(crate) fn new(retries: u32) -> Self {
        Self { retries }
    }

    /// Makes `call` until it succeeds, fails for good, or was tried often enough.
    pub(crate) async fn run<T, F>(self, mut call: impl FnMut() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut tries = Tries::new(self);
        loop {
            match call().await {
                Ok(answer) => return Ok(answer),
                Err(status) => tries.again(status).await?,
            }
        }
    }
}

/// The tries of one call so far.
#[derive(Debug)]
pub(crate) struct Tries {
    retry: Retry,
    failed: u32,
}

impl Tries {
    /// None failed yet.
    pub(crate) fn new(retry: Retry) -> Self {
        Self { retry, failed: 0 }
    }

    /// Forgets the failures: the call made progress since.
    pub(crate) fn reset(&mut self) {
        self.failed = 0;
    }

    /// Waits until the call that failed with `status` may be tried again.
    ///
    /// # Errors
    /// `status` itself when it is not worth another try.
    pub(crate) async fn again(&mut self, status: Status) -> Result<(), Status> {
        let told = told_delay(&status);
        let passing = told.is_some() || status.code() == Code::Unavailable;
        if !passing || self.failed >= self.retry.retries {
            return Err(status);
        }
        let delay = told.map_or_else(|| chosen_delay(self.failed), |told| told.min(LONGEST_TOLD));
        self.failed += 1;
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

/// Full jitter over the upper half, so that clients that failed together don't return together.
fn chosen_delay(failed: u32) -> Duration {
    let whole = FIRST.saturating_mul(1 << failed.min(16)).min(LONGEST);
    whole.mul_f64(rand::random_range(0.5..1.0))
}

/// The delay in the status's `RetryInfo`; zero when it has one that names none.
fn told_delay(status: &Status) -> Option<Duration> {
    let details = rpc::Status::decode(status.details()).ok()?.details;
    let info: rpc::RetryInfo = details.iter().find_map(|detail| any::unpack(detail).ok())?;
    let delay = info.retry_delay.unwrap_or_default();
    Some(Duration::try_from(delay).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn with_retry_info(code: Code, delay: Duration) -> Status {
        let info = rpc::RetryInfo { retry_delay: Some(delay.try_into().unwrap()) };
        let detail = rpc::Status { code: code as i32, details: vec![any::pack(&info)], ..Default::default() };
        Status::with_details(code, "later", detail.encode_to_vec().into())
    }

    async fn tries(retry: Retry, status: impl Fn() -> Status) -> u32 {
        let calls = Cell::new(0);
        let answer: Result<(), _> = retry
            .run(|| {
                calls.set(calls.get() + 1);
                let status = status();
                async move { Err(status) }
            })
            .await;
        answer.unwrap_err();
        calls.get()
    }

    #[tokio::test(start_paused = true)]
    async fn passing_failures_are_tried_again_and_lasting_ones_are_not() {
        let retry = Retry::new(3);
        assert_eq!(tries(retry, || Status::unavailable("gone")).await, 4);
        assert_eq!(tries(retry, || Status::invalid_argument("wrong")).await, 1);
        assert_eq!(tries(retry, || Status::resource_exhausted("full")).await, 1);
        let later = || with_retry_info(Code::ResourceExhausted, Duration::from_secs(1));
        assert_eq!(tries(retry, later).await, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_servers_delay_is_kept_within_reason() {
        let mut tries = Tries::new(Retry::new(5));
        let begin = tokio::time::Instant::now();
        tries.again(with_retry_info(Code::Unavailable, Duration::from_secs(7))).await.unwrap();
        assert_eq!(begin.elapsed().as_secs(), 7);
        tries.again(with_retry_info(Code::Unavailable, Duration::from_secs(86_400))).await.unwrap();
        assert_eq!(begin.elapsed().as_secs(), 127);
    }

    #[tokio::test(start_paused = true)]
    async fn progress_gives_all_tries_back() {
        let mut tries = Tries::new(Retry::new(1));
        tries.again(Status::unavailable("")).await.unwrap();
        tries.reset();
        tries.again(Status::unavailable("")).await.unwrap();
        tries.again(Status::unavailable("")).await.unwrap_err();
    }

    #[test]
    fn waits_grow_to_a_bound() {
        assert!(chosen_delay(0) <= FIRST);
        assert!(chosen_delay(30) <= LONGEST && chosen_delay(30) >= LONGEST / 2);
    }
}
