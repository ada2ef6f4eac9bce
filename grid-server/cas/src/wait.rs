//! [`until_available`]: a call whose dependency is away is held and made again, rather than failed; for a moment only
//! where somebody else can answer as well ([`hurried`]).

use std::time::Duration;

use futures::stream;
use rand::RngExt;
use tokio::time::Instant;

use crate::{ByteStream, StoreError};

/// How long a call waits in all. Callers with less time drop it sooner.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a hurried call waits in all: for a server that has a hiccup, not for one that is away.
const HURRIED_LIMIT: Duration = Duration::from_secs(1);
/// How long a hurried call waits for one answer: enough for a large one.
const HURRIED_ANSWER: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

tokio::task_local! {
    /// Set where nobody wants to wait.
    static HURRY: ();
}

/// Makes `call` with little patience: nothing in it waits long for what is away. Tasks that it starts don't know of it.
pub async fn hurried<T>(call: impl Future<Output = T>) -> T {
    HURRY.scope((), call).await
}

/// `content`, read with as little patience.
pub(crate) fn hurried_stream(mut content: ByteStream) -> ByteStream {
    Box::pin(stream::poll_fn(move |cx| HURRY.sync_scope((), || content.as_mut().poll_next(cx))))
}

/// How long to wait here for what is away, where it would be `patient` otherwise.
pub(crate) fn limit(patient: Duration) -> Duration {
    if HURRY.try_get().is_ok() { patient.min(HURRIED_LIMIT) } else { patient }
}

/// How long to wait here for an answer of what is there, where it would be `patient` otherwise.
pub(crate) fn answer_limit(patient: Duration) -> Duration {
    if HURRY.try_get().is_ok() { patient.min(HURRIED_ANSWER) } else { patient }
}

/// Makes `call` again while it says that something is not available, for a minute at most.
///
/// # Errors
/// The last failure.
pub async fn until_available<T, F>(mut call: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let (began, limit) = (Instant::now(), limit(LIMIT));
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match call().await {
            Err(error @ StoreError::Unavailable { .. }) => error,
            answer => return answer,
        };
        // Spread, so that those who lost the same server don't come back at the same moment.
        let now = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        if began.elapsed() + now > limit {
            return Err(error);
        }
        tokio::time::sleep(now).await;
        pause = pause.mul_f64(1.6).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    async fn away() -> Result<(), StoreError> {
        let (backend, message) = ("a store".into(), String::new());
        until_available(|| {
            std::future::ready(Err(StoreError::Unavailable {
                backend: std::sync::Arc::clone(&backend),
                message: message.clone(),
                retry_after: None,
            }))
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_away_is_waited_for_a_minute_and_in_a_hurry_for_a_moment() {
        let began = Instant::now();
        away().await.unwrap_err();
        assert!((50..=60).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        let began = Instant::now();
        hurried(away()).await.unwrap_err();
        assert!(began.elapsed() <= HURRIED_LIMIT, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_read_in_a_hurry_wherever_it_is_polled() {
        let content = stream::once(async { away().await.map(|()| bytes::Bytes::new()) });
        let began = Instant::now();
        hurried_stream(Box::pin(content)).next().await.unwrap().unwrap_err();
        assert!(began.elapsed() <= HURRIED_LIMIT, "{:?}", began.elapsed());
    }
}
