//! [`Limits`]: how many calls run at once (`maximum-concurrent-rpcs`), by class, so that no class can starve another.
//!
//! Work (blobs, results, streams, operations) holds its place until the last byte of its answer left. Execute and
//! WaitExecution hold one of their own only until the answer begins: who then waits for an action costs nothing. Bots, health
//! and reflection are not limited: a bot that waits for work is idle, and one that can't call loses what it runs. Who finds no
//! place waits in a bounded queue for a bounded time, and only then gets RESOURCE_EXHAUSTED with a time to come again.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use grid_rpc::{RpcError, to_status};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tower::{Layer, Service};

/// How many calls may wait for each that runs.
const QUEUE: usize = 16;
/// How long a call waits for its place.
const PATIENCE: Duration = Duration::from_secs(30);
const EXECUTION: &str = "/build.bazel.remote.execution.v2.Execution/";
const UNLIMITED: [&str; 3] =
    ["/google.devtools.remoteworkers.v1test2.Bots/", "/grpc.health.v1.Health/", "/grpc.reflection."];

/// The places of one class.
#[derive(Debug)]
struct Gate {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
}

impl Gate {
    fn new(places: usize) -> Self {
        let queue = places.saturating_mul(QUEUE);
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Self { places, waiting: AtomicUsize::new(0), queue }
    }

    async fn enter(&self) -> Result<OwnedSemaphorePermit, RpcError> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let _turn = Turn::take(self)?;
        let place = tokio::time::timeout(PATIENCE, Arc::clone(&self.places).acquire_owned()).await;
        place.ok().and_then(Result::ok).ok_or_else(full)
    }
}

/// A place in the queue, which is left when the call goes on or its client goes away.
struct Turn<'g>(&'g Gate);

impl<'g> Turn<'g> {
    fn take(gate: &'g Gate) -> Result<Self, RpcError> {
        let turn = Self(gate);
        if gate.waiting.fetch_add(1, Ordering::Relaxed) < gate.queue { Ok(turn) } else { Err(full()) }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn full() -> RpcError {
    RpcError::Limit {
        message: "the server has as many calls as it takes (maximum-concurrent-rpcs); call again".to_owned(),
        subject: "server".to_owned(),
        retry_after: Some(Duration::from_secs(5)),
    }
}

#[derive(Debug)]
struct Gates {
    work: Gate,
    executes: Gate,
}

/// The layer.
#[derive(Clone, Debug)]
pub(crate) struct Limits(Option<Arc<Gates>>);

impl Limits {
    /// Lets so many calls of each class run at once; all where there is no number.
    pub(crate) fn new(calls: Option<usize>) -> Self {
        Self(calls.map(|calls| Arc::new(Gates { work: Gate::new(calls), executes: Gate::new(calls) })))
    }
}

impl<S> Layer<S> for Limits {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, gates: self.0.clone() }
    }
}

/// A service with limits.
#[derive(Clone, Debug)]
pub(crate) struct Limited<S> {
    inner: S,
    gates: Option<Arc<Gates>>,
}

impl<S> Service<Request<Body>> for Limited<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let unlimited = UNLIMITED.iter().any(|prefix| path.starts_with(prefix));
        let Some(gates) = self.gates.clone().filter(|_| !unlimited) else {
            return Box::pin(self.inner.call(request));
        };
        let executes = path.starts_with(EXECUTION);
        // The clone that is ready serves this call, and a fresh one the next.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(async move {
            let gate = if executes { &gates.executes } else { &gates.work };
            let place = match gate.enter().await {
                Ok(place) => place,
                Err(error) => return Ok(to_status(&error).into_http()),
            };
            let answer = inner.call(request).await?;
            if executes {
                return Ok(answer);
            }
            Ok(answer.map(|inner| Body::new(Held { inner, _place: place })))
        })
    }
}

pin_project! {
    /// An answer that holds its call's place until it ends.
    struct Held {
        #[pin]
        inner: Body,
        _place: OwnedSemaphorePermit,
    }
}

impl http_body::Body for Held {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures::FutureExt as _;
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
        ServiceBuilder::new().layer(Limits::new(Some(calls))).service(answer)
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
}
