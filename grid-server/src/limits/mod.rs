//! [`Limits`]: how many calls run at once (`maximum-concurrent-rpcs`), by class, so that no class can starve another.
//!
//! Work (blobs, results, streams, operations) holds its place until the last byte of its answer left, or
//! [`crate::answers`] takes it away, or until it lets go of it: who writes a log, or waits for a log's reader, does nothing most
//! of the time. Execute and WaitExecution hold one of their own only until the answer begins: who then
//! waits for an action costs nothing. Bots, Fleet, health and reflection are not limited: a bot that waits for work is idle,
//! and one that can't call loses what it runs. Who finds no place waits in a bounded queue ([`gate`]), and only then gets
//! RESOURCE_EXHAUSTED with a time to come again.

pub(crate) mod gate;

use std::sync::Arc;

use grid_rpc::to_status;
use grid_rpc::transport::around::{Around, Surrounded};
use grid_rpc::transport::{Connection, Held};
use http::{Request, Response};
use parking_lot::Mutex;
use tonic::body::Body;
use tower::{Layer, Service};

use self::gate::Gate;
use crate::answers::Answers;

/// How many calls may wait for each that runs.
const QUEUE: usize = 16;
const EXECUTION: &str = "/build.bazel.remote.execution.v2.Execution/";
const UNLIMITED: [&str; 4] = [
    "/google.devtools.remoteworkers.v1test2.Bots/",
    "/grid.fleet.v1alpha1.Fleet/",
    "/grpc.health.v1.Health/",
    "/grpc.reflection.",
];

#[derive(Debug)]
struct Gates {
    work: Gate,
    executes: Gate,
}

/// The layer.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    gates: Arc<Gates>,
    answers: Answers,
}

impl Limits {
    /// Lets so many calls of each class run at once. `answers` looks after what they answer.
    pub(crate) fn new(calls: usize, answers: Answers) -> Self {
        let gate = || Gate::new(calls, calls.saturating_mul(QUEUE));
        let gates = Arc::new(Gates { work: gate(), executes: gate() });
        Self { gates, answers }
    }
}

impl<S> Layer<S> for Limits {
    type Service = Surrounded<Self, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Surrounded::new(self.clone(), inner)
    }
}

impl Around for Limits {
    async fn around<S>(self, mut request: Request<Body>, mut inner: S) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>, Future: Send> + Send,
    {
        let path = request.uri().path();
        let limited = !UNLIMITED.iter().any(|prefix| path.starts_with(prefix));
        let executes = path.starts_with(EXECUTION);
        let connection = request.extensions().get::<Connection>().copied().unwrap_or_default();
        let gate = if executes { &self.gates.executes } else { &self.gates.work };
        if !limited {
            let answer = inner.call(request).await?;
            return Ok(answer.map(|body| self.answers.watch(body, None)));
        }
        let place = match gate.enter(connection).await {
            Ok(place) => Arc::new(Mutex::new(Some(place))),
            Err(error) => return Ok(to_status(&error).into_http()),
        };
        let held = Arc::clone(&place);
        request.extensions_mut().insert(Held::new(move || drop(held.lock().take())));
        let answer = inner.call(request).await?;
        let place = place.lock().take();
        Ok(answer.map(|body| self.answers.watch(body, place.filter(|_| !executes))))
    }
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

    #[tokio::test]
    async fn what_lets_go_of_its_place_runs_on_without_one() {
        let endless = service_fn(|request: Request<Body>| async move {
            Held::let_go(request.extensions());
            std::future::pending::<Result<Response<Body>, Infallible>>().await
        });
        let limits = Limits::new(1, Answers::new(1));
        let mut writing = std::pin::pin!(
            ServiceBuilder::new().layer(limits.clone()).service(endless).oneshot(request(READ))
        );
        assert!(writing.as_mut().now_or_never().is_none());
        let other =
            service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
        let answer = ServiceBuilder::new().layer(limits).service(other).oneshot(request(READ)).now_or_never();
        assert!(answer.is_some(), "the place is free");
        assert!(writing.as_mut().now_or_never().is_none(), "and who let go of it goes on");
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
}
