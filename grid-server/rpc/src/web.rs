//! [`Web`]: pages in browsers, before all services: gRPC-web becomes gRPC, and browsers are told which pages may call (CORS).
//!
//! A browser asks first whether a page of another origin may call (a preflight); that shows no credentials, and reaches
//! no service. Who the caller is and what they may do is for the services' own layers, as with every call.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tonic::body::Body;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer, Service};

/// What a page may read of an answer's headers: how the call ended.
const EXPOSED: HeaderValue = HeaderValue::from_static("grpc-status,grpc-message,grpc-status-details-bin");
/// How long a browser may remember a preflight's answer, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("3600");

/// The layer.
#[derive(Clone, Debug)]
pub struct Web {
    origins: Arc<[HeaderValue]>,
    any: bool,
}

impl Web {
    /// Lets pages of these origins call, each as `https://HOST[:PORT]`; `*` stands for any. What can be no origin lets nobody in.
    #[must_use]
    pub fn new<'a>(origins: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut any, mut allowed) = (false, Vec::new());
        for origin in origins {
            any |= origin == "*";
            allowed.extend(HeaderValue::from_str(origin).ok());
        }
        Self { origins: allowed.into(), any }
    }

    /// The headers that let the page of a request see the answer; none where it may not.
    fn allow(&self, request: &HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some(origin) = request.get(ORIGIN) else { return headers };
        headers.insert(VARY, HeaderValue::from_static("origin"));
        if self.any || self.origins.contains(origin) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
        headers
    }

    /// The answer to a preflight.
    fn preflight(&self, request: &HeaderMap) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let mut headers = self.allow(request);
        if headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
            headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
            // Metadata is headers, and may have any name.
            if let Some(asked) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
            }
        }
        *response.headers_mut() = headers;
        response
    }
}

fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

impl<S> Layer<S> for Web {
    type Service = WebService<S>;

    fn layer(&self, inner: S) -> WebService<S> {
        WebService { inner: GrpcWebLayer::new().layer(inner), web: self.clone() }
    }
}

/// A service that browsers may call.
#[derive(Clone, Debug)]
pub struct WebService<S> {
    inner: GrpcWebService<S>,
    web: Web,
}

impl<S> Service<Request<Body>> for WebService<S>
where
    GrpcWebService<S>: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<
        Ready<Result<Response<Body>, Infallible>>,
        Allowed<<GrpcWebService<S> as Service<Request<Body>>>::Future>,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if is_preflight(&request) {
            return Either::Left(ready(Ok(self.web.preflight(request.headers()))));
        }
        let headers = self.web.allow(request.headers());
        Either::Right(Allowed { inner: self.inner.call(request), headers })
    }
}

pin_project_lite::pin_project! {
    /// A call whose answer its page may see.
    pub struct Allowed<F> {
        #[pin]
        inner: F,
        headers: HeaderMap,
    }
}

impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Allowed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut response = std::task::ready!(this.inner.poll(cx))?;
        response.headers_mut().extend(std::mem::take(this.headers));
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(origin: &'static str) -> HeaderMap {
        let headers = [
            (ORIGIN, HeaderValue::from_static(origin)),
            (ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("authorization,x-grpc-web")),
        ];
        headers.into_iter().collect()
    }

    #[test]
    fn only_pages_that_are_named_may_call() {
        let web = Web::new(["https://ui.example.org", "http://localhost:3000"]);
        let answer = web.preflight(&from("https://ui.example.org"));
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "https://ui.example.org");
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_HEADERS], "authorization,x-grpc-web");
        for stranger in
            ["https://evil.example.org", "https://ui.example.org.evil", "http://ui.example.org", "null"]
        {
            let answer = web.preflight(&from(stranger));
            assert!(!answer.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "{stranger}");
            assert!(!answer.headers().contains_key(ACCESS_CONTROL_ALLOW_HEADERS), "{stranger}");
        }
        assert_eq!(Web::new(["*"]).allow(&from("https://any"))[ACCESS_CONTROL_ALLOW_ORIGIN], "https://any");
    }

    #[test]
    fn callers_that_are_no_pages_are_told_nothing() {
        assert!(Web::new(["*"]).allow(&HeaderMap::new()).is_empty());
    }
}
