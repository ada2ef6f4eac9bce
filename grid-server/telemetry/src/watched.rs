//! [`Watching`]: a tower layer that shows somebody each call from its beginning to its end, and changes nothing of it.
//!
//! Whoever counts or traces calls implements [`Watch`]; the futures and bodies around a call are here once for them all.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

/// Who looks at calls.
pub trait Watch: Clone {
    /// One call that is looked at; it is dropped when the last byte of the answer left, or the client went away.
    type Call: Watched;

    /// A call comes in; `None` where it is not looked at.
    fn begin<B>(&self, request: &mut Request<B>) -> Option<Self::Call>;
}

/// A call that is looked at.
pub trait Watched {
    /// The answer begins. One without messages has its gRPC status in these headers.
    fn answered(&mut self, status: StatusCode, headers: &HeaderMap);

    /// The answer ends with these trailers.
    fn trailers(&mut self, _trailers: &HeaderMap) {}

    /// So many bytes of the answer leave.
    fn sent(&mut self, _bytes: usize) {}

    /// Does a part of what is done for the call.
    fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }
}

/// The layer.
#[derive(Clone, Debug)]
pub struct Watching<W>(pub W);

impl<W: Clone, S> Layer<S> for Watching<W> {
    type Service = WatchedService<W, S>;

    fn layer(&self, inner: S) -> WatchedService<W, S> {
        WatchedService { inner, watch: self.0.clone() }
    }
}

/// A service whose calls are looked at.
#[derive(Clone, Debug)]
pub struct WatchedService<W, S> {
    inner: S,
    watch: W,
}

impl<W, S, Req, Res> Service<Request<Req>> for WatchedService<W, S>
where
    W: Watch,
    S: Service<Request<Req>, Response = Response<Res>>,
{
    type Response = Response<WatchedBody<W::Call, Res>>;
    type Error = S::Error;
    type Future = WatchedFuture<W::Call, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Req>) -> Self::Future {
        let call = self.watch.begin(&mut request);
        let inner = within(call.as_ref(), || self.inner.call(request));
        WatchedFuture { inner, call }
    }
}

fn within<C: Watched, T>(call: Option<&C>, work: impl FnOnce() -> T) -> T {
    match call {
        Some(call) => call.within(work),
        None => work(),
    }
}

pin_project! {
    /// A call whose answer has not begun.
    #[derive(Debug)]
    pub struct WatchedFuture<C, F> {
        #[pin]
        inner: F,
        call: Option<C>,
    }
}

impl<C, F, Res, E> Future for WatchedFuture<C, F>
where
    C: Watched,
    F: Future<Output = Result<Response<Res>, E>>,
{
    type Output = Result<Response<WatchedBody<C, Res>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let inner = this.inner;
        let response = ready!(within(this.call.as_ref(), || inner.poll(cx)))?;
        let mut call = this.call.take();
        if let Some(call) = &mut call {
            call.answered(response.status(), response.headers());
        }
        Poll::Ready(Ok(response.map(|inner| WatchedBody { inner, call })))
    }
}

pin_project! {
    /// The body of an answer; the call ends with it.
    #[derive(Debug)]
    pub struct WatchedBody<C, B> {
        #[pin]
        inner: B,
        call: Option<C>,
    }
}

impl<C, B: Default> Default for WatchedBody<C, B> {
    fn default() -> Self {
        Self { inner: B::default(), call: None }
    }
}

impl<C: Watched, B: Body> Body for WatchedBody<C, B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let inner = this.inner;
        let frame = ready!(within(this.call.as_ref(), || inner.poll_frame(cx)));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(call) = this.call.as_mut() {
                    frame.trailers_ref().into_iter().for_each(|trailers| call.trailers(trailers));
                    frame.data_ref().into_iter().for_each(|data| call.sent(data.remaining()));
                }
            }
            Some(Err(_)) | None => drop(this.call.take()),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
