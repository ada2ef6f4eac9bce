//! [`Lanes`]: the calls of one connection, in a few tasks of its own.
//!
//! The runtime takes tasks in the order in which they came. With a task for each call, whoever sends a thousand calls has a
//! thousand turns before the next client has one. Here a connection has as many tasks as the machine has processors,
//! whatever it sends, and each makes a few steps and goes to the end of the queue: how long a client waits for its turn
//! depends on how many connections are busy, and not on how many calls they make. What is bounded elsewhere stays so:
//! streams of a connection by HTTP/2's settings, calls that work by `grid-server`'s limits.

use std::num::NonZero;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How many steps of its calls a lane makes in one turn. A call of another connection waits for so many of each busy lane;
/// with one step instead of four, actions cost half as much again, and a crowd held up a good client no less.
const STEPS: usize = 4;

/// How many lanes a connection has at most.
static PROCESSORS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, NonZero::get));

type Call = BoxFuture<'static, ()>;

/// Runs the calls of a connection. A lane begins with its first call, and ends when the connection is gone and its last
/// call is over.
#[derive(Clone)]
pub(super) struct Lanes(Arc<Inner>);

struct Inner {
    next: AtomicUsize,
    lanes: Box<[OnceLock<UnboundedSender<Call>>]>,
}

impl Lanes {
    pub(super) fn new() -> Self {
        let lanes = (0..*PROCESSORS).map(|_| OnceLock::new()).collect();
        Self(Arc::new(Inner { next: AtomicUsize::new(0), lanes }))
    }
}

impl<F> hyper::rt::Executor<F> for Lanes
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        // A call that fails badly ends alone, as it would in a task of its own.
        let call = AssertUnwindSafe(call).catch_unwind().map(drop).boxed();
        let Inner { next, lanes } = &*self.0;
        let lane = &lanes[next.fetch_add(1, Ordering::Relaxed) % lanes.len()];
        let lane = lane.get_or_init(|| {
            let (calls, coming) = unbounded_channel();
            tokio::spawn(Lane::new(coming));
            calls
        });
        // A lane lives as long as its sender.
        let _ = lane.send(call);
    }
}

/// The calls of a connection that take turns.
struct Lane {
    coming: UnboundedReceiver<Call>,
    is_open: bool,
    calls: FuturesUnordered<Step>,
    /// How many steps are left of this turn.
    left: Arc<AtomicUsize>,
}

impl Lane {
    fn new(coming: UnboundedReceiver<Call>) -> Self {
        Self { coming, is_open: true, calls: FuturesUnordered::new(), left: Arc::default() }
    }

    /// Takes in a call that has come; false where none has.
    fn take_in(&mut self, cx: &mut Context<'_>) -> bool {
        match self.coming.poll_recv(cx) {
            Poll::Ready(Some(call)) => self.calls.push(Step { call, left: Arc::clone(&self.left) }),
            Poll::Ready(None) => {
                self.is_open = false;
                return false;
            }
            Poll::Pending => return false,
        }
        true
    }
}

impl Future for Lane {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let lane = &mut *self;
        lane.left.store(STEPS, Ordering::Relaxed);
        loop {
            let came = lane.take_in(cx);
            match lane.calls.poll_next_unpin(cx) {
                Poll::Ready(None) if !lane.is_open => return Poll::Ready(()),
                Poll::Ready(None) | Poll::Pending if !came => return Poll::Pending,
                Poll::Ready(_) | Poll::Pending => {}
            }
            if lane.left.load(Ordering::Relaxed) == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

/// A call that makes a step only where its lane has one left.
struct Step {
    call: Call,
    left: Arc<AtomicUsize>,
}

impl Future for Step {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.left.load(Ordering::Relaxed);
        let Some(left) = left.checked_sub(1) else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        self.left.store(left, Ordering::Relaxed);
        self.call.poll_unpin(cx)
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Executor as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn who_has_one_call_does_not_wait_for_all_of_another() {
        const MANY: usize = 1_000;
        let (busy, modest) = (Lanes::new(), Lanes::new());
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..MANY {
            let done = Arc::clone(&done);
            busy.execute(async move {
                tokio::task::yield_now().await;
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        let (tell, told) = oneshot::channel();
        let before = Arc::clone(&done);
        modest.execute(async move {
            let _ = tell.send(before.load(Ordering::Relaxed));
        });
        let before = told.await.unwrap();
        assert!(before <= *PROCESSORS * STEPS, "{before} calls of another connection went before");
        while done.load(Ordering::Relaxed) < MANY {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn calls_outlive_their_connection_and_a_panic_ends_its_own_call_only() {
        let lanes = Lanes::new();
        let mut open = Vec::new();
        for number in 0..*PROCESSORS * 3 {
            let (go, gone) = oneshot::channel::<()>();
            let (tell, told) = oneshot::channel();
            lanes.execute(async move {
                assert!(number > 0, "the first call is faulty");
                gone.await.unwrap();
                tell.send(number).unwrap();
            });
            open.push((go, told));
        }
        drop(lanes);
        for (number, (go, told)) in open.into_iter().enumerate() {
            let sent = go.send(());
            match number {
                0 => assert!(told.await.is_err()),
                _ => assert_eq!((sent, told.await), (Ok(()), Ok(number))),
            }
        }
    }
}
