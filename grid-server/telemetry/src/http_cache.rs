//! [`HttpMetrics`]: a tower layer that counts the requests of Bazel's HTTP cache, how they are answered and how soon.
//!
//! Instances stand in paths there, and paths come from outside: they are no labels, so that clients can't fill the
//! registry.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http::{Method, Request, Response};
use pin_project_lite::pin_project;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tower::{Layer, Service};

use crate::Metrics;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    method: &'static str,
    kind: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    kind: &'static str,
    status: u16,
}

/// The layer.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    answered: Family<Answered, Counter>,
    seconds: Family<Asked, Histogram, fn() -> Histogram>,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 4.0, 12))
}

impl HttpMetrics {
    /// The layer with its metrics in a registry.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let layer = Self { answered: Family::default(), seconds: Family::new_with_constructor(seconds) };
        metrics.register(
            "http_cache_requests",
            "Requests to the HTTP cache, by their status",
            &layer.answered,
        );
        let help = "How long requests to the HTTP cache took until their answer began";
        metrics.register("http_cache_seconds", help, &layer.seconds);
        layer
    }
}

/// What a request is about, in labels of which there are few.
fn asked<B>(request: &Request<B>) -> Asked {
    let method = match *request.method() {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        _ => "other",
    };
    let kind = match request.uri().path().rsplit('/').nth(1) {
        Some("ac") => "ac",
        Some("cas") => "cas",
        _ => "other",
    };
    Asked { method, kind }
}

impl<S> Layer<S> for HttpMetrics {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, metrics: self.clone() }
    }
}

/// A service whose requests are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    metrics: HttpMetrics,
}

impl<S, Req, Res> Service<Request<Req>> for Counted<S>
where
    S: Service<Request<Req>, Response = Response<Res>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = CountedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let (asked, metrics) = (asked(&request), self.metrics.clone());
        CountedFuture { inner: self.inner.call(request), asked, metrics, started: Instant::now() }
    }
}

pin_project! {
    /// A request whose answer has not begun.
    #[derive(Debug)]
    pub struct CountedFuture<F> {
        #[pin]
        inner: F,
        asked: Asked,
        metrics: HttpMetrics,
        started: Instant,
    }
}

impl<F, Res, E> Future for CountedFuture<F>
where
    F: Future<Output = Result<Response<Res>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let Asked { method, kind } = *this.asked;
        let answered = Answered { method, kind, status: response.status().as_u16() };
        this.metrics.answered.get_or_create(&answered).inc();
        this.metrics.seconds.get_or_create(this.asked).observe(this.started.elapsed().as_secs_f64());
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::{ServiceBuilder, ServiceExt as _, service_fn};

    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_kind_and_status_and_never_by_path() {
        let metrics = Metrics::default();
        let missing = service_fn(|_: Request<()>| async {
            Ok::<_, Infallible>(Response::builder().status(404).body(()).unwrap())
        });
        let service = ServiceBuilder::new().layer(HttpMetrics::new(&metrics)).service(missing);
        for (method, path) in [("GET", "/team/ac/abc"), ("GET", "/ac/abc"), ("BREW", "/secret/path")] {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            service.clone().oneshot(request).await.unwrap();
        }
        let text = metrics.encode();
        let counted = |labels: &str| text.contains(&format!("grid_http_cache_requests_total{{{labels}}}"));
        assert!(text.contains("{method=\"GET\",kind=\"ac\",status=\"404\"} 2"), "{text}");
        assert!(counted("method=\"other\",kind=\"other\",status=\"404\""), "{text}");
        assert!(!text.contains("team") && !text.contains("secret"), "{text}");
    }
}
