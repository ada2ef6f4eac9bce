//! [`Batcher`]: group commit. Calls that arrive while a transaction is under way share the next one.
//!
//! It also carries calls over a database that is away: the batch is tried again, with a growing pause, until it
//! succeeds, its callers have gone, or the patience is over. What a batch does must therefore be safe to do twice.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use crate::SchedulerError;

type Call<Q, A> = (Q, oneshot::Sender<Result<A, SchedulerError>>);

/// A queue of calls in front of a function that takes many at once.
#[derive(Debug)]
pub(super) struct Batcher<Q, A> {
    calls: mpsc::Sender<Call<Q, A>>,
}

/// Limits of a batcher.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Calls a batch.
    pub(super) batch: usize,
    /// How long a batch is tried again.
    pub(super) patience: Duration,
}

impl<Q, A> Batcher<Q, A>
where
    Q: Clone + Send + Sync + 'static,
    A: Send + 'static,
{
    /// A batcher, and the task that works it off; the task ends when the batcher is dropped.
    pub(super) fn new<F, R>(limits: Limits, run: F) -> (Self, impl Future<Output = ()> + Send)
    where
        F: Fn(Vec<Q>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Vec<A>, SchedulerError>> + Send,
    {
        let (calls, queue) = mpsc::channel(limits.batch.max(1) * 8);
        (Self { calls }, work(queue, limits, run))
    }

    /// Has `request` done with others, and waits for its own answer.
    pub(super) async fn call(&self, request: Q) -> Result<A, SchedulerError> {
        let (answer, answered) = oneshot::channel();
        self.calls.send((request, answer)).await.map_err(|_| SchedulerError::Stopped)?;
        answered.await.map_err(|_| SchedulerError::Stopped)?
    }
}

async fn work<Q, A, F, R>(mut queue: mpsc::Receiver<Call<Q, A>>, limits: Limits, run: F)
where
    Q: Clone + Send + Sync,
    A: Send,
    F: Fn(Vec<Q>) -> R + Send + Sync,
    R: Future<Output = Result<Vec<A>, SchedulerError>> + Send,
{
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, limits.batch.max(1)).await > 0 {
        serve(std::mem::take(&mut batch), limits.patience, &run).await;
    }
}

async fn serve<Q, A, F, R>(mut batch: Vec<Call<Q, A>>, patience: Duration, run: &F)
where
    Q: Clone + Send + Sync,
    A: Send,
    F: Fn(Vec<Q>) -> R + Send + Sync,
    R: Future<Output = Result<Vec<A>, SchedulerError>> + Send,
{
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(20);
    loop {
        batch.retain(|(_, answer)| !answer.is_closed());
        if batch.is_empty() {
            return;
        }
        match run(batch.iter().map(|(request, _)| request.clone()).collect()).await {
            Ok(answers) => {
                for ((_, answer), result) in batch.into_iter().zip(answers) {
                    // A caller that has gone needs no answer.
                    let _ = answer.send(Ok(result));
                }
                return;
            }
            Err(error) if is_passing(&error) && Instant::now() + pause < deadline => {
                tracing::debug!(%error, "scheduler transaction is tried again");
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            Err(error) => {
                tracing::warn!(%error, calls = batch.len(), "scheduler transaction failed");
                for (_, answer) in batch {
                    let _ = answer.send(Err(error.clone()));
                }
                return;
            }
        }
    }
}

/// Whether doing the same again can succeed.
pub(super) fn is_passing(error: &SchedulerError) -> bool {
    matches!(error, SchedulerError::Unavailable(_) | SchedulerError::Conflict(_))
}
