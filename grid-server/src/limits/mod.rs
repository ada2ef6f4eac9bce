//! [`Limits`]: how many calls run at once (`maximum-concurrent-rpcs`), by class, so that no class can starve another.
//!
//! Work (blobs, results, streams, operations, requests of the HTTP cache) holds its place until the last byte of its answer
//! left, or [`crate::answers`] takes it away, or the call itself has to wait for somebody else ([`seat`]). Execute and
//! WaitExecution hold one of their own only until the answer begins: who then waits for an action costs nothing. What anybody
//! may open without being known, watches of health and streams of reflection, has places of its own, held to the end. Bots,
//! Fleet and a look at health are not limited: a bot that waits for work is idle, one that can't call loses what it runs, and
//! health is answered from memory. Who finds no place waits in a bounded queue ([`gate`]), and only then gets
//! RESOURCE_EXHAUSTED with a time to come again. All this comes after authorization: who is not admitted takes no place.

pub(crate) mod gate;
mod seat;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use grid_rpc::transport::Connection;
use grid_rpc::transport::around::{Around, Surrounded};
use grid_rpc::transport::place::seated;
use grid_rpc::{RpcError, http_cache, to_status};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tonic::body::Body;
use tower::{Layer, Service};

use self::gate::{Behind, Client, Gate, Place};
use self::seat::Seat;
use crate::answers::Answers;

/// How many calls may wait for each that runs.
const QUEUE: usize = 16;
/// How many streams there may be that ask for no authentication.
const OPEN_STREAMS: usize = 1_000;
const EXECUTION: &str = "/build.bazel.remote.execution.v2.Execution/";
const OPEN: [&str; 2] = ["/grpc.health.v1.Health/Watch", "/grpc.reflection."];
const UNLIMITED: [&str; 3] = [
    "/google.devtools.remoteworkers.v1test2.Bots/",
    "/grid.fleet.v1alpha1.Fleet/",
    "/grpc.health.v1.Health/",
];

#[derive(Debug)]
struct Gates {
    work: Gate,
    executes: Gate,
    open: Gate,
}

fn gates(calls: usize, room: usize) -> Gates {
    let gate = || Gate::new(calls, room, "calls (maximum-concurrent-rpcs)");
    let open = Gate::new(OPEN_STREAMS, 0, "watches of health and streams of reflection");
    Gates { work: gate(), executes: gate(), open }
}

/// What a call is, as far as places are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Work,
    Executes,
    Open,
    Unlimited,
}

/// What is spoken at an address.
#[derive(Clone, Copy, Debug)]
enum Edge {
    Grpc,
    Http,
}

/// The layer.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    gates: Arc<Gates>,
    answers: Answers,
    edge: Edge,
}

impl Limits {
    /// Lets so many calls of each class run at once. `answers` looks after what they answer.
    pub(crate) fn new(calls: usize, answers: Answers) -> Self {
        let gates = Arc::new(gates(calls, calls.saturating_mul(QUEUE)));
        Self { gates, answers, edge: Edge::Grpc }
    }

    /// The same places, for requests of the HTTP cache.
    pub(crate) fn over_http(&self) -> Self {
        Self { edge: Edge::Http, ..self.clone() }
    }

    fn class(&self, path: &str) -> Class {
        match self.edge {
            // A path names an instance there, and not a method.
            Edge::Http => Class::Work,
            Edge::Grpc if path.starts_with(EXECUTION) => Class::Executes,
            Edge::Grpc if OPEN.iter().any(|prefix| path.starts_with(prefix)) => Class::Open,
            Edge::Grpc if UNLIMITED.iter().any(|prefix| path.starts_with(prefix)) => Class::Unlimited,
            Edge::Grpc => Class::Work,
        }
    }

    fn refuse(&self, error: &RpcError) -> Response<Body> {
        match self.edge {
            Edge::Grpc => to_status(error).into_http(),
            Edge::Http => http_cache::refusal(error),
        }
    }
}

impl<S> Layer<S> for Limits {
    type Service = Surrounded<Self, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Surrounded::new(self.clone(), inner)
    }
}

impl Around for Limits {
    async fn around<S>(self, request: Request<Body>, mut inner: S) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>, Future: Send> + Send,
    {
        let class = self.class(request.uri().path());
        let gate = match class {
            Class::Work => &self.gates.work,
            Class::Executes => &self.gates.executes,
            Class::Open => &self.gates.open,
            Class::Unlimited => {
                let answer = inner.call(request).await?;
                return Ok(answer.map(|body| self.answers.watch(body, None)));
            }
        };
        let client = client(&request);
        let place = match gate.enter(client).await {
            Ok(place) => place,
            Err(error) => return Ok(self.refuse(&error)),
        };
        let seat = Arc::new(Seat::new(gate.clone(), client, place));
        let answer = seated(Arc::clone(&seat) as _, inner.call(request)).await?;
        Ok(answer.map(|body| match (class, seat.take()) {
            (Class::Work, place) => self.answers.watch(body, place),
            (Class::Open, Some(place)) => self.answers.watch(held(body, place), None),
            (_, place) => {
                drop(place);
                self.answers.watch(body, None)
            }
        }))
    }
}

/// Whose turn a call takes. A proxy appends to `x-forwarded-for` for whom it calls: the last is what the nearest one says.
fn client(request: &Request<Body>) -> Client {
    let connection = request.extensions().get::<Connection>().copied().unwrap_or_default();
    let said = request.headers().get_all("x-forwarded-for").iter().next_back();
    let last = said.and_then(|said| said.as_bytes().rsplit(|byte| *byte == b',').next());
    let behind = last.map_or_else(Behind::default, |last| {
        let mut hasher = DefaultHasher::new();
        last.trim_ascii().hash(&mut hasher);
        Behind(hasher.finish())
    });
    Client { connection, behind }
}

/// A body that holds a place to its end, however long it has nothing to say.
fn held(body: Body, place: Place) -> Body {
    Body::new(body.map_frame(move |frame| {
        let _held = &place;
        frame
    }))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures::FutureExt as _;
    use futures::future::BoxFuture;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tower::{ServiceBuilder, ServiceExt as _, service_fn};

    use super::*;

    const READ: &str = "/google.bytestream.ByteStream/Read";
    const BOTS: &str = "/google.devtools.remoteworkers.v1test2.Bots/UpdateBotSession";
    const WATCH: &str = "/grpc.health.v1.Health/Watch";
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    const EXECUTE: &str = "/build.bazel.remote.execution.v2.Execution/Execute";

    /// A server whose answers begin at once and whose bodies last as long as they are held.
    fn server(
        calls: usize,
    ) -> impl Service<
        Request<Body>,
        Response = Response<Body>,
        Error = Infallible,
        Future = BoxFuture<'static, Result<Response<Body>, Infallible>>,
    > + Clone {
        let answer = service_fn(|_: Request<Body>| async {
            let silent = futures::stream::pending::<Result<Frame<Bytes>, Infallible>>();
            Ok::<_, Infallible>(Response::new(Body::new(StreamBody::new(silent))))
        });
        ServiceBuilder::new().layer(Limits::new(calls, Answers::new(calls))).service(answer)
    }

    fn request(path: &str) -> Request<Body> {
        Request::builder().uri(path).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn work_holds_its_place_until_its_answer_left_and_starves_nobody_else() {
        let server = server(1);
        let held = server.clone().oneshot(request(READ)).await.unwrap();
        let waiting = server.clone().oneshot(request(READ));
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none(), "there is one place");
        for path in [BOTS, EXECUTE, EXECUTE] {
            assert!(server.clone().oneshot(request(path)).now_or_never().is_some(), "{path}");
        }
        drop(held);
        assert!(waiting.await.unwrap().headers().get("grpc-status").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_or_finds_the_queue_full_is_told_when_to_come_again() {
        let server = server(1);
        let _held = server.clone().oneshot(request(READ)).await.unwrap();
        let queue: Vec<_> = (0..QUEUE).map(|_| tokio::spawn(server.clone().oneshot(request(READ)))).collect();
        tokio::task::yield_now().await;
        let refused = server.clone().oneshot(request(READ)).now_or_never().unwrap().unwrap();
        assert_eq!(refused.headers()["grpc-status"], "8", "the queue is full");
        for waiting in queue {
            let answer = waiting.await.unwrap().unwrap();
            assert_eq!(answer.headers()["grpc-status"], "8");
            assert!(answer.headers().contains_key("grpc-status-details-bin"), "with a time to come again");
        }
    }

    #[tokio::test]
    async fn what_anybody_may_open_is_bounded_and_takes_nothing_of_work() {
        let server = server(1);
        let mut open = Vec::new();
        for path in [WATCH, REFLECTION].into_iter().cycle().take(OPEN_STREAMS) {
            let answer = server.clone().oneshot(request(path)).await.unwrap();
            assert!(!answer.headers().contains_key("grpc-status"), "{} are open", open.len());
            open.push(answer);
        }
        for path in [WATCH, REFLECTION] {
            let refused = server.clone().oneshot(request(path)).await.unwrap();
            assert_eq!(refused.headers()["grpc-status"], "8", "{path}");
        }
        for path in [CHECK, BOTS, READ] {
            let answer = server.clone().oneshot(request(path)).await.unwrap();
            assert!(!answer.headers().contains_key("grpc-status"), "{path}");
        }
        open.pop();
        let again = server.clone().oneshot(request(WATCH)).await.unwrap();
        assert!(!again.headers().contains_key("grpc-status"), "one has ended");
    }

    #[test]
    fn those_whom_a_proxy_calls_for_are_told_apart_by_what_it_says_itself() {
        let connection = Connection::next();
        let behind = |said: &[&str]| {
            let mut request = request(READ);
            request.extensions_mut().insert(connection);
            for said in said {
                request.headers_mut().append("x-forwarded-for", said.parse().unwrap());
            }
            let client = client(&request);
            assert_eq!(client.connection, connection);
            client.behind
        };
        assert_eq!(behind(&["10.0.0.7"]), behind(&["1.2.3.4, 10.0.0.7"]), "a client made up the rest");
        assert_eq!(behind(&["10.0.0.7"]), behind(&["1.2.3.4", "10.0.0.7"]));
        assert_ne!(behind(&["10.0.0.7"]), behind(&["10.0.0.8"]));
        assert_eq!(behind(&[]), Behind::default());
    }

    #[tokio::test]
    async fn the_http_cache_has_the_same_places_and_another_way_to_say_no() {
        let limits = Limits { gates: Arc::new(gates(1, 0)), ..Limits::new(1, Answers::new(1)) };
        let silent = service_fn(|_: Request<Body>| async {
            let silent = futures::stream::pending::<Result<Frame<Bytes>, Infallible>>();
            Ok::<_, Infallible>(Response::new(Body::new(StreamBody::new(silent))))
        });
        let (grpc, http) = (limits.layer(silent), limits.over_http().layer(silent));
        let held = grpc.oneshot(request(READ)).await.unwrap();
        for path in ["/cas/0", "/google.devtools.remoteworkers.v1test2.Bots/cas/0"] {
            let refused = http.clone().oneshot(request(path)).await.unwrap();
            assert_eq!(refused.status(), http::StatusCode::SERVICE_UNAVAILABLE, "{path}");
            assert_eq!(refused.headers()["retry-after"], "5");
        }
        drop(held);
        assert_eq!(http.oneshot(request("/cas/0")).await.unwrap().status(), http::StatusCode::OK);
    }
}
