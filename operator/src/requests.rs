//! Counts what is asked of the API server: by verb, kind and answer. A layer of the client, so that nothing gets past it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{Method, Request, Response};
use kube::client::Body;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tower::{Layer, Service};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    verb: &'static str,
    /// Plural of the kind, with the subresource behind a slash.
    resource: String,
    /// Status of the answer; `none` where there was no answer.
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByVerb {
    verb: &'static str,
}

/// The counters.
#[derive(Clone)]
pub(crate) struct Requests {
    asked: Family<Asked, Counter>,
    took: Family<ByVerb, Histogram>,
}

impl Default for Requests {
    fn default() -> Self {
        let took = Family::<ByVerb, Histogram>::new_with_constructor(|| {
            Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
        });
        Self { asked: Family::default(), took }
    }
}

impl Requests {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Requests to the API server, by verb, kind and status";
        registry.register("api_requests", help, self.asked.clone());
        let help = "Time until the API server answers, watches apart";
        registry.register_with_unit("api_request", help, Unit::Seconds, self.took.clone());
    }

    fn note(&self, verb: &'static str, resource: String, code: String, started: Instant) {
        self.asked.get_or_create(&Asked { verb, resource, code }).inc();
        if verb != WATCH {
            self.took.get_or_create(&ByVerb { verb }).observe(started.elapsed().as_secs_f64());
        }
    }
}

impl<S> Layer<S> for Requests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, requests: self.clone() }
    }
}

/// A client whose requests are counted.
#[derive(Clone)]
pub(crate) struct Counted<S> {
    inner: S,
    requests: Requests,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (verb, resource) = meaning(&request);
        let (requests, started) = (self.requests.clone(), Instant::now());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code =
                answer.as_ref().map_or_else(|_| "none".to_owned(), |a| a.status().as_u16().to_string());
            requests.note(verb, resource, code, started);
            answer
        })
    }
}

const WATCH: &str = "watch";

/// The verb as Kubernetes' own metrics have it, and the kind.
fn meaning<B>(request: &Request<B>) -> (&'static str, String) {
    let parts: Vec<&str> = request.uri().path().trim_matches('/').split('/').collect();
    let rest = match parts.as_slice() {
        ["api", _, "namespaces", _, rest @ ..] | ["apis", _, _, "namespaces", _, rest @ ..]
            if !rest.is_empty() =>
        {
            rest
        }
        ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
        _ => &[],
    };
    let resource = match rest {
        [plural, _, subresource] => format!("{plural}/{subresource}"),
        [plural, ..] => (*plural).to_owned(),
        [] => "none".to_owned(),
    };
    let watches =
        request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
    let content_type = request.headers().get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let verb = match *request.method() {
        Method::GET if watches => WATCH,
        Method::GET if rest.len() == 1 => "list",
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH if content_type.is_some_and(|text| text.starts_with(b"application/apply")) => "apply",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    };
    (verb, resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(method: Method, uri: &str, content_type: &str) -> (&'static str, String) {
        let request = Request::builder().method(method).uri(uri).header("content-type", content_type);
        meaning(&request.body(()).unwrap())
    }

    #[test]
    fn requests_are_told_by_what_they_do() {
        let ours = "/apis/grid.build/v1alpha1/namespaces/builds/buildgrids/demo/status";
        assert_eq!(said(Method::PUT, ours, ""), ("update", "buildgrids/status".to_owned()));
        let secrets = "/api/v1/namespaces/builds/secrets?labelSelector=a";
        assert_eq!(said(Method::GET, secrets, ""), ("list", "secrets".to_owned()));
        assert_eq!(said(Method::GET, "/api/v1/nodes?watch=true&x=1", ""), ("watch", "nodes".to_owned()));
        assert_eq!(said(Method::GET, "/api/v1/namespaces/builds", ""), ("get", "namespaces".to_owned()));
        let lease = "/apis/coordination.k8s.io/v1/namespaces/grid-system/leases/grid-operator";
        assert_eq!(said(Method::GET, lease, ""), ("get", "leases".to_owned()));
        let apply = "application/apply-patch+yaml";
        assert_eq!(said(Method::PATCH, lease, apply), ("apply", "leases".to_owned()));
        assert_eq!(said(Method::PATCH, lease, "application/merge-patch+json").0, "patch");
        assert_eq!(said(Method::GET, "/version", ""), ("get", "none".to_owned()));
    }
}
