//! [`Answers`]: what becomes of answers that nobody reads, and of those that have nothing to say for a while.
//!
//! A client that reads slowly is waited for by flow control, and costs what its answer holds: a place among the calls that
//! run, and the bytes under way. One that has read nothing for [`STALLED`] is given up: what its answer holds is let go, and
//! it finds DEADLINE_EXCEEDED should it ever read on. An answer that has had nothing to say for [`RESTING`], such as a followed log or a
//! stream of build events, gives its place to others and goes on without one.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use grid_rpc::{RpcError, to_status};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::body::Body;

/// How long a client may read nothing of an answer that is there.
const STALLED: Duration = Duration::from_secs(120);
/// How long an answer may be silent and keep its place.
const RESTING: Duration = Duration::from_secs(10);
/// How often all answers are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Who is to move.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The server has to say more.
    Ours(Instant),
    /// The client has to read.
    Theirs(Instant),
}

#[derive(Debug)]
struct State {
    /// `None` once it is over or given up.
    body: Option<Body>,
    place: Option<OwnedSemaphorePermit>,
    turn: Turn,
    given_up: bool,
}

/// All answers under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers(Arc<Mutex<Vec<Weak<Mutex<State>>>>>);

impl Answers {
    /// Looks after `body`, which holds `place`.
    pub(crate) fn watch(&self, body: Body, place: Option<OwnedSemaphorePermit>) -> Body {
        if body.is_end_stream() {
            return body;
        }
        let turn = Turn::Ours(Instant::now());
        let state = Arc::new(Mutex::new(State { body: Some(body), place, turn, given_up: false }));
        let mut all = self.0.lock();
        // Room is made before it is taken: what is over doesn't pile up between two looks.
        if all.len() == all.capacity() {
            all.retain(|state| state.strong_count() > 0);
        }
        all.push(Arc::downgrade(&state));
        drop(all);
        Body::new(Answer(state))
    }

    /// Looks at all answers for ever; to be spawned.
    pub(crate) async fn look(self) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look_once(Instant::now());
        }
    }

    fn look_once(&self, now: Instant) {
        let answers: Vec<_> = {
            let mut all = self.0.lock();
            all.retain(|state| state.strong_count() > 0);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        for answer in answers {
            // Dropped outside of the lock: a body may have much to clean up.
            let (_body, _place) = answer.lock().judge(now);
        }
    }
}

impl State {
    /// What it is to let go of.
    fn judge(&mut self, now: Instant) -> (Option<Body>, Option<OwnedSemaphorePermit>) {
        match self.turn {
            Turn::Theirs(since) if now - since >= STALLED && self.body.is_some() => {
                tracing::info!("an answer was given up: its client read nothing for {} s", STALLED.as_secs());
                self.given_up = true;
                (self.body.take(), self.place.take())
            }
            Turn::Ours(since) if now - since >= RESTING => (None, self.place.take()),
            Turn::Theirs(_) | Turn::Ours(_) => (None, None),
        }
    }
}

/// An answer that is looked after.
struct Answer(Arc<Mutex<State>>);

/// The end of an answer that was given up.
fn given_up() -> HeaderMap {
    let message = format!("the client read nothing of this answer for {} s", STALLED.as_secs());
    let mut headers = HeaderMap::new();
    // A status always fits into headers; without one a client sees a broken stream, which is as good here.
    let _ = to_status(&RpcError::Deadline(message)).add_header(&mut headers);
    headers
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut state = self.0.lock();
        if std::mem::take(&mut state.given_up) {
            return Poll::Ready(Some(Ok(Frame::trailers(given_up()))));
        }
        let Some(body) = &mut state.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(cx);
        let now = Instant::now();
        match &frame {
            Poll::Ready(Some(Ok(_))) => state.turn = Turn::Theirs(now),
            Poll::Ready(None | Some(Err(_))) => {
                state.body = None;
                state.place = None;
            }
            Poll::Pending if matches!(state.turn, Turn::Theirs(_)) => state.turn = Turn::Ours(now),
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        let state = self.0.lock();
        !state.given_up && state.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().body.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::sync::Semaphore;

    use super::*;

    fn place(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        Some(Arc::clone(places).try_acquire_owned().unwrap())
    }

    fn words(silent_after: usize) -> Body {
        let word = |_| Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"word")));
        let words = stream::iter((0..silent_after).map(word)).chain(stream::pending());
        Body::new(StreamBody::new(words))
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_is_let_go_and_says_so() {
        let (answers, places) = (Answers::default(), Arc::new(Semaphore::new(1)));
        let mut body = answers.watch(words(5), place(&places));
        body.frame().await.unwrap().unwrap();
        answers.look_once(Instant::now() + STALLED / 2);
        assert_eq!(places.available_permits(), 0, "it may read slowly");
        answers.look_once(Instant::now() + STALLED);
        assert_eq!(places.available_permits(), 1);
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "4");
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn an_answer_that_rests_goes_on_without_its_place() {
        let (answers, places) = (Answers::default(), Arc::new(Semaphore::new(1)));
        let mut body = answers.watch(words(1), place(&places));
        body.frame().await.unwrap().unwrap();
        assert!(futures::FutureExt::now_or_never(body.frame()).is_none(), "it has nothing to say");
        answers.look_once(Instant::now() + RESTING);
        assert_eq!(places.available_permits(), 1);
        answers.look_once(Instant::now() + 2 * STALLED);
        assert!(futures::FutureExt::now_or_never(body.frame()).is_none(), "and is not over");
    }

    #[tokio::test]
    async fn an_answer_that_is_read_keeps_its_place_until_it_is_over() {
        let (answers, places) = (Answers::default(), Arc::new(Semaphore::new(1)));
        let body = Body::new(http_body_util::Full::new(Bytes::from_static(b"all")));
        let body = answers.watch(body, place(&places));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "all");
        assert_eq!(places.available_permits(), 1);
        answers.look_once(Instant::now());
        assert!(answers.0.lock().is_empty());
    }
}
