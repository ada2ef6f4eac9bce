//! [`Answers`]: what becomes of answers that nobody reads, and of those that have nothing to say for a while.
//!
//! A client that reads slowly is waited for by flow control, and costs what its answer holds: a place among the calls that
//! run, and the bytes under way. An answer that did not go on for [`RESTING`] gives its place to others and goes on without one:
//! one that has nothing to say, such as a followed log or a stream of build events, costs nothing then; one that nobody reads
//! still holds its bytes. So there are as many of those at most as there are places, and one that was not read for [`STALLED`], or
//! for the longest where there are too many, is given up: what it holds is let go, and its client finds DEADLINE_EXCEEDED
//! should it ever read on.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use grid_rpc::{RpcError, to_status};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::body::Body;

use crate::limits::gate::Place;

/// How long a client may read nothing of an answer that is there.
const STALLED: Duration = Duration::from_secs(120);
/// How long an answer may stand still and keep its place.
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
    place: Option<Place>,
    turn: Turn,
    given_up: bool,
}

/// All answers under way.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    all: Arc<Mutex<Vec<Weak<Mutex<State>>>>>,
    /// How many may be without a place that wait to be read.
    unread: usize,
}

impl Answers {
    /// None yet; of those that wait to be read so many may go on without a place.
    pub(crate) fn new(unread: usize) -> Self {
        Self { all: Arc::default(), unread }
    }

    /// Looks after `body`, which holds `place`.
    pub(crate) fn watch(&self, body: Body, place: Option<Place>) -> Body {
        if body.is_end_stream() {
            return body;
        }
        let turn = Turn::Ours(Instant::now());
        let state = Arc::new(Mutex::new(State { body: Some(body), place, turn, given_up: false }));
        let mut all = self.all.lock();
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
            let mut all = self.all.lock();
            all.retain(|state| state.strong_count() > 0);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        let mut unread = Vec::new();
        for answer in answers {
            // Dropped outside of the lock: who waits for it goes on.
            let (since, _place) = answer.lock().judge(now);
            unread.extend(since.map(|since| (since, answer)));
        }
        unread.sort_by_key(|(since, _)| *since);
        let too_many = unread.len().saturating_sub(self.unread);
        for (at, (since, answer)) in unread.into_iter().enumerate() {
            if at < too_many || now - since >= STALLED {
                // As above: a body may have much to clean up.
                let _body = answer.lock().give_up(since);
            }
        }
    }
}

impl State {
    /// Since when it waits to be read, where that is too long to keep a place; and the place that it is to let go of.
    fn judge(&mut self, now: Instant) -> (Option<Instant>, Option<Place>) {
        match self.turn {
            Turn::Theirs(since) if now - since >= RESTING && self.body.is_some() => {
                (Some(since), self.place.take())
            }
            Turn::Ours(since) if now - since >= RESTING => (None, self.place.take()),
            Turn::Theirs(_) | Turn::Ours(_) => (None, None),
        }
    }

    /// Its body, unless it was read since.
    fn give_up(&mut self, since: Instant) -> Option<Body> {
        if !matches!(self.turn, Turn::Theirs(still) if still == since) {
            return None;
        }
        tracing::info!("an answer was given up: its client read nothing for {} s", since.elapsed().as_secs());
        self.given_up = true;
        self.body.take()
    }
}

/// An answer that is looked after.
struct Answer(Arc<Mutex<State>>);

/// The end of an answer that was given up.
fn given_up() -> HeaderMap {
    let message = "the client read nothing of this answer for too long".to_owned();
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

    use futures::{FutureExt as _, StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;
    use crate::limits::gate::{Client, Gate};

    /// A gate with one place.
    fn gate() -> Gate {
        Gate::new(1, 0, "calls")
    }

    /// The place, where it is free.
    fn place(gate: &Gate) -> Option<Place> {
        gate.enter(Client::default()).now_or_never()?.ok()
    }

    fn words(silent_after: usize) -> Body {
        let word = |_| Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"word")));
        let words = stream::iter((0..silent_after).map(word)).chain(stream::pending());
        Body::new(StreamBody::new(words))
    }

    async fn ends(mut body: Body) -> bool {
        let trailers = body.frame().await.unwrap().unwrap().into_trailers();
        trailers.is_ok_and(|trailers| trailers["grpc-status"] == "4") && body.frame().await.is_none()
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_gives_up_its_place_then_ends_and_says_so() {
        let (answers, gate) = (Answers::new(1), gate());
        let mut body = answers.watch(words(5), place(&gate));
        body.frame().await.unwrap().unwrap();
        answers.look_once(Instant::now() + RESTING / 2);
        assert!(place(&gate).is_none(), "it may read slowly");
        answers.look_once(Instant::now() + RESTING);
        assert!(place(&gate).is_some());
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "word", "it goes on");
        answers.look_once(Instant::now() + STALLED);
        assert!(ends(body).await);
    }

    #[tokio::test]
    async fn of_too_many_that_nobody_reads_those_end_that_have_not_been_read_for_the_longest() {
        let answers = Answers::new(2);
        let mut bodies: Vec<_> = (0..4).map(|_| answers.watch(words(5), None)).collect();
        for body in &mut bodies {
            body.frame().await.unwrap().unwrap();
        }
        answers.look_once(Instant::now() + RESTING);
        let (kept, ended) = (bodies.split_off(2), bodies);
        for body in ended {
            assert!(ends(body).await);
        }
        for mut body in kept {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "word");
        }
    }

    #[tokio::test]
    async fn an_answer_that_rests_goes_on_without_its_place() {
        let (answers, gate) = (Answers::new(0), gate());
        let mut body = answers.watch(words(1), place(&gate));
        body.frame().await.unwrap().unwrap();
        assert!(body.frame().now_or_never().is_none(), "it has nothing to say");
        answers.look_once(Instant::now() + RESTING);
        assert!(place(&gate).is_some());
        answers.look_once(Instant::now() + 2 * STALLED);
        assert!(body.frame().now_or_never().is_none(), "and is not over");
    }

    #[tokio::test]
    async fn an_answer_that_is_read_keeps_its_place_until_it_is_over() {
        let (answers, gate) = (Answers::new(0), gate());
        let body = Body::new(http_body_util::Full::new(Bytes::from_static(b"all")));
        let body = answers.watch(body, place(&gate));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "all");
        assert!(place(&gate).is_some());
        answers.look_once(Instant::now());
        assert!(answers.all.lock().is_empty());
    }
}
