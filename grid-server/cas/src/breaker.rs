//! [`Breaker`] and [`Guarded`]: how somebody is asked whom others can stand in for, such as a cache or one replica of
//! several. Nobody waits long for it; and once it was found to be away, for a while it is asked by one caller at a time,
//! and all others go on without.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use grid_core::{Coded, Digest, ErrorCode};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::wait::{hurried, hurried_stream};
use crate::{BlobStore, ByteRange, ByteStream, SharedStore, StoreError};

/// How long to leave alone what is away, from one try to the next.
const PAUSE: Duration = Duration::from_secs(5);

/// Whether somebody is away.
#[derive(Debug)]
pub struct Breaker<E> {
    /// What was said last, and when to ask again.
    trouble: Mutex<Option<(E, Instant)>>,
}

impl<E> Default for Breaker<E> {
    fn default() -> Self {
        Self { trouble: Mutex::new(None) }
    }
}

impl<E: Coded + Clone> Breaker<E> {
    /// Makes a call that does not wait long, or fails it at once while it is known that nobody is there.
    ///
    /// # Errors
    /// The call's, or that of an earlier one.
    pub async fn call<T>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.check()?;
        let answer = hurried(call).await;
        self.learn(answer.as_ref().err());
        answer
    }

    /// Whether nobody was there when it was asked last.
    pub fn is_open(&self) -> bool {
        self.trouble.lock().is_some()
    }

    /// Fails while nobody is to ask. When the pause is over, one caller is let through, and it begins anew for the others.
    fn check(&self) -> Result<(), E> {
        let mut trouble = self.trouble.lock();
        let Some((error, until)) = trouble.as_mut() else { return Ok(()) };
        let now = Instant::now();
        if *until > now {
            return Err(error.clone());
        }
        *until = now + PAUSE;
        Ok(())
    }

    fn learn(&self, error: Option<&E>) {
        let mut trouble = self.trouble.lock();
        match error {
            Some(error) if error.code() == ErrorCode::Unavailable => {
                *trouble = Some((error.clone(), Instant::now() + PAUSE));
            }
            _ => *trouble = None,
        }
    }
}

/// A store that is asked through a breaker.
#[derive(Debug)]
pub(crate) struct Guarded {
    store: SharedStore,
    breaker: Arc<Breaker<StoreError>>,
}

impl Guarded {
    pub(crate) fn new(store: SharedStore) -> Self {
        Self { store, breaker: Arc::default() }
    }

    /// The store itself, for calls that have nobody else to turn to: they wait for it.
    pub(crate) const fn patient(&self) -> &SharedStore {
        &self.store
    }

    pub(crate) fn is_away(&self) -> bool {
        self.breaker.is_open()
    }

    /// Leaves it alone for a while: it failed in a way that is no matter of waiting.
    pub(crate) fn leave_alone(&self, error: &StoreError) {
        *self.breaker.trouble.lock() = Some((error.clone(), Instant::now() + PAUSE));
    }

    /// A batch is away where each of it is.
    async fn batch<T>(
        &self,
        count: usize,
        call: impl Future<Output = Vec<Result<T, StoreError>>>,
    ) -> Vec<Result<T, StoreError>> {
        if let Err(error) = self.breaker.check() {
            return (0..count).map(|_| Err(error.clone())).collect();
        }
        let answers = hurried(call).await;
        self.breaker.learn(away(&answers));
        answers
    }
}

/// The error of a batch of which nothing was available.
pub(crate) fn away<T>(answers: &[Result<T, StoreError>]) -> Option<&StoreError> {
    let is_away = |answer: &Result<T, StoreError>| matches!(answer, Err(StoreError::Unavailable { .. }));
    answers.first().filter(|_| answers.iter().all(is_away)).and_then(|answer| answer.as_ref().err())
}

#[async_trait]
impl BlobStore for Guarded {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.breaker.call(self.store.find_missing(digests)).await
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        let content = hurried_stream(self.breaker.call(self.store.read(digest, range)).await?);
        let breaker = Arc::clone(&self.breaker);
        Ok(Box::pin(content.inspect(move |piece| {
            if let Err(error) = piece {
                breaker.learn(Some(error));
            }
        })))
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        self.breaker.check()?;
        // Trouble of whoever sends the content is none of the store's.
        let theirs = Arc::new(AtomicBool::new(false));
        let note = Arc::clone(&theirs);
        let content = content.inspect(move |piece| note.store(piece.is_err(), Ordering::Relaxed));
        let answer = hurried(self.store.write(digest, Box::pin(content))).await;
        self.breaker.learn(answer.as_ref().err().filter(|_| !theirs.load(Ordering::Relaxed)));
        answer
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        self.batch(digests.len(), self.store.read_batch(digests)).await
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        self.batch(blobs.len(), self.store.write_batch(blobs)).await
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        self.batch(digests.len(), self.store.delete(digests)).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        hurried(self.store.probe()).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    fn trouble() -> StoreError {
        StoreError::Unavailable { backend: "a store".into(), message: "away".into(), retry_after: None }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_away_is_asked_once_in_a_while_and_again_when_it_is_back() {
        let (breaker, asked) = (Breaker::default(), AtomicU32::new(0));
        let ask = async |answer: Result<(), StoreError>| {
            breaker
                .call(async {
                    asked.fetch_add(1, Ordering::SeqCst);
                    answer
                })
                .await
        };
        for _ in 0..10 {
            ask(Err(trouble())).await.unwrap_err();
        }
        assert!(asked.load(Ordering::SeqCst) == 1 && breaker.is_open());
        tokio::time::advance(PAUSE).await;
        ask(Err(trouble())).await.unwrap_err();
        ask(Ok(())).await.unwrap_err();
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        tokio::time::advance(PAUSE).await;
        ask(Ok(())).await.unwrap();
        ask(Ok(())).await.unwrap();
        assert!(asked.load(Ordering::SeqCst) == 4 && !breaker.is_open());
    }

    #[tokio::test]
    async fn an_answer_that_is_not_there_is_an_answer() {
        let breaker = Breaker::default();
        let refused = StoreError::Refused { backend: "a store".into(), message: String::new() };
        breaker.call(async { Err::<(), _>(refused) }).await.unwrap_err();
        assert!(!breaker.is_open());
    }
}
