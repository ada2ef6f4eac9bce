//! [`HttpMetrics`]: counts the requests of Bazel's HTTP cache, how they are answered and how soon.
//!
//! Instances stand in paths there, and paths come from outside: they are no labels, so that clients can't fill the
//! registry.

use std::time::Instant;

use http::{HeaderMap, Method, Request, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::Metrics;
use crate::watched::{Watch, Watched};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Asked {
    pub(crate) method: &'static str,
    pub(crate) kind: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    kind: &'static str,
    status: u16,
}

/// What counts requests, for [`crate::watched::Watching`].
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    answered: Family<Answered, Counter>,
    seconds: Family<Asked, Histogram, fn() -> Histogram>,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 4.0, 12))
}

impl HttpMetrics {
    /// Counters in a registry.
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
pub(crate) fn asked<B>(request: &Request<B>) -> Asked {
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

impl Watch for HttpMetrics {
    type Call = Call;

    fn begin<B>(&self, request: &mut Request<B>) -> Option<Call> {
        Some(Call { asked: asked(request), metrics: self.clone(), started: Instant::now() })
    }
}

/// A request whose answer has not begun.
#[derive(Debug)]
pub struct Call {
    asked: Asked,
    metrics: HttpMetrics,
    started: Instant,
}

impl Watched for Call {
    fn answered(&mut self, status: StatusCode, _: &HeaderMap) {
        let Asked { method, kind } = self.asked;
        let answered = Answered { method, kind, status: status.as_u16() };
        self.metrics.answered.get_or_create(&answered).inc();
        self.metrics.seconds.get_or_create(&self.asked).observe(self.started.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Response;
    use http_body_util::Empty;
    use tower::{ServiceBuilder, ServiceExt as _, service_fn};

    use super::*;
    use crate::watched::Watching;

    #[tokio::test]
    async fn requests_are_counted_by_kind_and_status_and_never_by_path() {
        let metrics = Metrics::default();
        let missing = service_fn(|_: Request<()>| async {
            Ok::<_, Infallible>(Response::builder().status(404).body(Empty::<bytes::Bytes>::new()).unwrap())
        });
        let service = ServiceBuilder::new().layer(Watching(HttpMetrics::new(&metrics))).service(missing);
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
