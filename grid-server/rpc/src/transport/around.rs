//! [`Around`]: what is done around each call, as one function; [`Surrounded`] makes a tower service of it.
//!
//! Authorization, limits and deadlines are of this shape. What must not cost an allocation for each call, or looks into every
//! poll, has a future of its own instead.

use std::future::Future;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

/// Stands before a service, call by call.
pub trait Around: Clone {
    /// Serves a call, by `inner` or without it.
    fn around<S>(
        self,
        request: Request<Body>,
        inner: S,
    ) -> impl Future<Output = Result<Response<Body>, S::Error>> + Send
    where
        S: Service<Request<Body>, Response = Response<Body>, Future: Send> + Send;
}

/// Nothing, where there is nothing to do.
impl<A: Around + Send> Around for Option<A> {
    async fn around<S>(self, request: Request<Body>, mut inner: S) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>, Future: Send> + Send,
    {
        match self {
            Some(around) => around.around(request, inner).await,
            None => inner.call(request).await,
        }
    }
}

/// A service with something around its calls.
#[derive(Clone, Debug)]
pub struct Surrounded<A, S> {
    around: A,
    inner: S,
}

impl<A, S> Surrounded<A, S> {
    /// Puts `around` around the calls of `inner`.
    pub const fn new(around: A, inner: S) -> Self {
        Self { around, inner }
    }
}

impl<A, S: NamedService> NamedService for Surrounded<A, S> {
    const NAME: &'static str = S::NAME;
}

impl<A, S> Service<Request<Body>> for Surrounded<A, S>
where
    A: Around + Send + 'static,
    S: Service<Request<Body>, Response = Response<Body>, Future: Send> + Clone + Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone that is ready serves this call, and a fresh one the next.
        let fresh = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(self.around.clone().around(request, inner))
    }
}
