//! [`Batcher`]: group commit. Calls that arrive while a transaction is under way share the next one.
//!
//! It also carries calls over a database that is away: a batch is tried again, with a growing pause, and takes in what
//! arrives meanwhile, until it succeeds, its callers have gone, or their patience is over: each call's own, counted from its
//! arrival, whatever it had to wait for. A batch that nobody waits for any more is given up, so that what was refused is not
//! done later. A call that can't be done takes no other with it. What a batch does must therefore be safe to do twice.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::patience::{Pauses, is_passing, tired};
use crate::SchedulerError;

#[derive(Debug)]
struct Call<Q, A> {
    request: Q,
    answer: oneshot::Sender<Result<A, SchedulerError>>,
    /// When its patience is over.
    deadline: Instant,
}

/// A queue of calls in front of a function that takes many at once.
#[derive(Debug)]
pub(super) struct Batcher<Q, A> {
    calls: mpsc::Sender<Call<Q, A>>,
    patience: Duration,
}

/// Limits of a batcher.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Calls a batch.
    pub(super) batch: usize,
    /// How long a call waits for its answer.
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
        let batch = limits.batch.max(1);
        let (calls, queue) = mpsc::channel(batch * 8);
        (Self { calls, patience: limits.patience }, Worker { queue, batch, run }.work())
    }

    /// Has `request` done with others, and waits for its own answer.
    pub(super) async fn call(&self, request: Q) -> Result<A, SchedulerError> {
        self.call_by(request, Instant::now() + self.patience).await
    }

    /// The same, of a caller whose patience ends then.
    pub(super) async fn call_by(&self, request: Q, deadline: Instant) -> Result<A, SchedulerError> {
        let (answer, answered) = oneshot::channel();
        let call = Call { request, answer, deadline };
        let held = async {
            self.calls.send(call).await.map_err(|_| SchedulerError::Stopped)?;
            answered.await.map_err(|_| SchedulerError::Stopped)?
        };
        timeout_at(deadline, held).await.unwrap_or_else(|_| Err(tired()))
    }
}

struct Worker<Q, A, F> {
    queue: mpsc::Receiver<Call<Q, A>>,
    batch: usize,
    run: F,
}

impl<Q, A, F, R> Worker<Q, A, F>
where
    Q: Clone + Send + Sync,
    A: Send,
    F: Fn(Vec<Q>) -> R + Send + Sync,
    R: Future<Output = Result<Vec<A>, SchedulerError>> + Send,
{
    async fn work(mut self) {
        let mut batch = Vec::new();
        while self.queue.recv_many(&mut batch, self.batch).await > 0 {
            let mut parts = vec![std::mem::take(&mut batch)];
            while let Some(part) = parts.pop() {
                parts.extend(self.serve(part).await);
            }
        }
    }

    /// Does a batch, however long it takes. Where one of its calls can't be done, gives it back in halves.
    async fn serve(&mut self, mut batch: Vec<Call<Q, A>>) -> Vec<Vec<Call<Q, A>>> {
        let mut pauses = Pauses::default();
        loop {
            batch.retain(|call| !call.answer.is_closed());
            let Some(last) = batch.iter().map(|call| call.deadline).max() else { return Vec::new() };
            let run = (self.run)(batch.iter().map(|call| call.request.clone()).collect());
            match timeout_at(last, run).await.unwrap_or_else(|_| Err(tired())) {
                Ok(answers) => {
                    for (call, result) in batch.into_iter().zip(answers) {
                        // A caller that has gone needs no answer.
                        let _ = call.answer.send(Ok(result));
                    }
                    return Vec::new();
                }
                Err(error) if is_passing(&error) => {
                    tracing::debug!(%error, "scheduler transaction is tried again");
                    let pause = pauses.next();
                    let next = Instant::now() + pause;
                    let (waiting, over) = batch.into_iter().partition(|call| next < call.deadline);
                    refuse(over, &error);
                    batch = waiting;
                    sleep(pause).await;
                    self.join(&mut batch);
                }
                Err(error) if batch.len() > 1 && is_of_one(&error) => {
                    let rest = batch.split_off(batch.len() / 2);
                    return vec![rest, batch];
                }
                Err(error) => {
                    tracing::warn!(%error, calls = batch.len(), "scheduler transaction failed");
                    refuse(batch, &error);
                    return Vec::new();
                }
            }
        }
    }

    /// Takes in what has arrived, as far as there is room.
    fn join(&mut self, batch: &mut Vec<Call<Q, A>>) {
        while batch.len() < self.batch
            && let Ok(call) = self.queue.try_recv()
        {
            batch.push(call);
        }
    }
}

fn refuse<Q, A>(calls: Vec<Call<Q, A>>, error: &SchedulerError) {
    for call in calls {
        let _ = call.answer.send(Err(error.clone()));
    }
}

/// Whether it may be for one call's sake, so that the others can be done without it.
const fn is_of_one(error: &SchedulerError) -> bool {
    matches!(error, SchedulerError::Corrupt { .. } | SchedulerError::Internal(_))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    fn limits(batch: usize) -> Limits {
        Limits { batch, patience: PATIENCE }
    }

    fn away() -> SchedulerError {
        SchedulerError::Unavailable("simulated".into())
    }

    /// A call that comes half a minute after another that is tried again; how long it waited.
    async fn second(batcher: &Batcher<u32, u32>) -> (Duration, Result<u32, SchedulerError>) {
        let late = async {
            sleep(PATIENCE / 2).await;
            let began = Instant::now();
            let answer = batcher.call(2).await;
            (began.elapsed(), answer)
        };
        tokio::join!(batcher.call(1), late).1
    }

    #[tokio::test(start_paused = true)]
    async fn patience_is_counted_from_each_calls_own_arrival() {
        for batch in [1, 500] {
            let (batcher, work) = Batcher::new(limits(batch), async |_| Err(away()));
            tokio::spawn(work);
            let (waited, answer) = second(&batcher).await;
            assert!(matches!(answer, Err(SchedulerError::Unavailable(_))), "{answer:?}");
            assert!(waited <= PATIENCE && waited > PATIENCE * 9 / 10, "{waited:?} in batches of {batch}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrives_while_the_database_is_away_is_done_when_it_is_back() {
        let (back, runs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_back, counted) = (Arc::clone(&back), Arc::clone(&runs));
        let run = move |batch: Vec<u32>| {
            let back = is_back.load(Ordering::Relaxed);
            counted.fetch_add(usize::from(back), Ordering::Relaxed);
            async move { if back { Ok(batch) } else { Err(away()) } }
        };
        let (batcher, work) = Batcher::new(limits(500), run);
        tokio::spawn(work);
        let returns = async {
            sleep(PATIENCE * 2 / 3).await;
            back.store(true, Ordering::Relaxed);
        };
        let ((waited, answer), ()) = tokio::join!(second(&batcher), returns);
        assert_eq!(answer.unwrap(), 2);
        assert!(waited <= PATIENCE / 4, "{waited:?}");
        assert_eq!(runs.load(Ordering::Relaxed), 1, "both were done at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_cannot_be_done_takes_no_other_with_it() {
        let run = async |batch: Vec<u32>| {
            if batch.contains(&7) { Err(SchedulerError::Internal("7".into())) } else { Ok(batch) }
        };
        let (batcher, work) = Batcher::new(limits(500), run);
        let calls = (0..20).map(|number| batcher.call(number));
        let calls = async { futures::future::join_all(calls).await };
        // All calls are there before the first batch is made.
        let answers = tokio::select! { biased; answers = calls => answers, () = work => unreachable!() };
        for (number, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(same) => assert_eq!(same as usize, number),
                Err(error) => assert!(number == 7 && matches!(error, SchedulerError::Internal(_)), "{error}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_is_not_done_when_the_database_is_back() {
        let done = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&done);
        let run = move |batch: Vec<u32>| {
            let counted = Arc::clone(&counted);
            async move {
                sleep(PATIENCE * 3 / 2).await;
                counted.fetch_add(1, Ordering::Relaxed);
                Ok(batch)
            }
        };
        let (batcher, work) = Batcher::new(limits(500), run);
        let work = tokio::spawn(work);
        assert!(matches!(batcher.call(1).await, Err(SchedulerError::Unavailable(_))));
        drop(batcher);
        work.await.unwrap();
        assert_eq!(done.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_never_answers_is_not_waited_for_for_ever() {
        let (batcher, work) = Batcher::<u32, u32>::new(limits(500), async |_| std::future::pending().await);
        tokio::spawn(work);
        let (waited, answer) = second(&batcher).await;
        assert!(matches!(answer, Err(SchedulerError::Unavailable(_))), "{answer:?}");
        assert_eq!(waited, PATIENCE);
    }
}
