//! [`HandOver`]: ends the calls that would outlive this process, so that their clients go on with another replica.
//!
//! Most calls are short, and finish while the server drains. A stream of an operation or a bot that waits for work may last
//! for hours: when the process is asked to end, these get UNAVAILABLE at once, on which every client calls again (Bazel with
//! `WaitExecution`), and nothing is lost, for jobs and sessions are in the database.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use pin_project_lite::pin_project;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tower::{Layer, Service};

/// The methods whose calls wait for something that happens in its own time.
const WAITING: [&str; 4] = [
    "/build.bazel.remote.execution.v2.Execution/Execute",
    "/build.bazel.remote.execution.v2.Execution/WaitExecution",
    "/google.devtools.remoteworkers.v1test2.Bots/CreateBotSession",
    "/google.devtools.remoteworkers.v1test2.Bots/UpdateBotSession",
];
/// gRPC's number for UNAVAILABLE.
const UNAVAILABLE: &str = "14";
const MESSAGE: &str = "this server is shutting down; call again";

/// The layer.
#[derive(Clone, Debug)]
pub(crate) struct HandOver {
    ending: CancellationToken,
}

impl HandOver {
    /// Hands calls over once `ending` is cancelled.
    pub(crate) const fn new(ending: CancellationToken) -> Self {
        Self { ending }
    }
}

impl<S> Layer<S> for HandOver {
    type Service = HandedOver<S>;

    fn layer(&self, inner: S) -> HandedOver<S> {
        HandedOver { inner, ending: self.ending.clone() }
    }
}

/// A service whose waiting calls are handed over.
#[derive(Clone, Debug)]
pub(crate) struct HandedOver<S> {
    inner: S,
    ending: CancellationToken,
}

impl<S, Req, Res> Service<Request<Req>> for HandedOver<S>
where
    S: Service<Request<Req>, Response = Response<Res>>,
{
    type Response = Response<HandedOverBody<Res>>;
    type Error = S::Error;
    type Future = HandedOverFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let waits = WAITING.contains(&request.uri().path());
        let ending = waits.then(|| Box::pin(self.ending.clone().cancelled_owned()));
        HandedOverFuture { inner: self.inner.call(request), ending }
    }
}

type Ending = Option<Pin<Box<WaitForCancellationFutureOwned>>>;

fn ended(ending: &mut Ending, cx: &mut Context<'_>) -> bool {
    ending.as_mut().is_some_and(|ending| ending.as_mut().poll(cx).is_ready())
}

fn unavailable(headers: &mut HeaderMap) {
    headers.insert("grpc-status", HeaderValue::from_static(UNAVAILABLE));
    headers.insert("grpc-message", HeaderValue::from_static(MESSAGE));
}

pin_project! {
    /// A call whose answer has not begun.
    pub(crate) struct HandedOverFuture<F> {
        #[pin]
        inner: F,
        ending: Ending,
    }
}

impl<F, Res, E> Future for HandedOverFuture<F>
where
    F: Future<Output = Result<Response<Res>, E>>,
{
    type Output = Result<Response<HandedOverBody<Res>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(answer) = this.inner.poll(cx) {
            let ending = this.ending.take();
            return Poll::Ready(
                answer.map(|response| response.map(|inner| HandedOverBody { inner: Some(inner), ending })),
            );
        }
        if ended(this.ending, cx) {
            let mut response = Response::new(HandedOverBody { inner: None, ending: None });
            response
                .headers_mut()
                .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            unavailable(response.headers_mut());
            return Poll::Ready(Ok(response));
        }
        Poll::Pending
    }
}

pin_project! {
    /// The body of an answer, cut off with UNAVAILABLE where it is handed over.
    pub(crate) struct HandedOverBody<B> {
        #[pin]
        inner: Option<B>,
        ending: Ending,
    }
}

impl<B> Default for HandedOverBody<B> {
    fn default() -> Self {
        Self { inner: None, ending: None }
    }
}

impl<B: Body> Body for HandedOverBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        // What is there to say is said first: a result that is ready is not withheld.
        if let Poll::Ready(frame) = inner.poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if ended(this.ending, cx) {
            this.inner.set(None);
            let mut trailers = HeaderMap::new();
            unavailable(&mut trailers);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Empty, StreamBody};
    use tower::{ServiceBuilder, ServiceExt as _, service_fn};

    use super::*;

    fn request(path: &str) -> Request<Empty<Bytes>> {
        Request::builder().uri(path).body(Empty::new()).unwrap()
    }

    #[tokio::test]
    async fn a_stream_that_waits_ends_with_unavailable_when_the_server_does() {
        let token = CancellationToken::new();
        let layer = HandOver::new(token.clone());
        let stream = service_fn(|_: Request<Empty<Bytes>>| async {
            let first = futures::stream::once(async {
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"news")))
            });
            Ok::<_, Infallible>(Response::new(StreamBody::new(futures::StreamExt::chain(
                first,
                futures::stream::pending(),
            ))))
        });
        let service = ServiceBuilder::new().layer(layer).service(stream);
        let mut body = Box::pin(service.oneshot(request(WAITING[0])).await.unwrap().into_body());
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "news");
        token.cancel();
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "14");
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_call_that_waits_for_its_answer_is_handed_over_and_others_are_not() {
        let token = CancellationToken::new();
        token.cancel();
        let never = service_fn(|_: Request<Empty<Bytes>>| {
            std::future::pending::<Result<Response<Empty<Bytes>>, Infallible>>()
        });
        let service = ServiceBuilder::new().layer(HandOver::new(token)).service(never);
        let response = service.clone().oneshot(request(WAITING[3])).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "14");
        let other = service.oneshot(request("/google.bytestream.ByteStream/Write"));
        assert!(futures::FutureExt::now_or_never(other).is_none(), "a transfer goes on");
    }
}
