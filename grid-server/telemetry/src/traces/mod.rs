//! [`Traces`]: a span for each call that its client traces, or that is chosen here, with the stages of its action as its children;
//! [`HttpTraces`] does so for requests of the HTTP cache.
//!
//! Calls are joined to the client's trace by `traceparent`; those without one are chosen by a ratio. Of a call that is not
//! traced nothing is kept. Spans are made and batched by OpenTelemetry's SDK and go to a collector by OTLP ([`send`]); they
//! rather get lost than hold up a call: the metric `trace_spans` tells how many did.

mod send;

use std::time::{Duration, SystemTime};

use grid_core::{CallInstance, CallTrace};
use http::{HeaderMap, Request, StatusCode};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};

use self::send::Counted;
pub use self::send::TraceError;
use crate::Metrics;
use crate::http_cache::{Asked, asked};
use crate::rpc::code;
use crate::watched::{Watch, Watched};

/// The longest name of a call that nobody serves, in characters.
const MAX_NAME: usize = 200;

/// Where traces go, and of which calls.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// The collector's address for OTLP over HTTP, without a path: `http://HOST:4318`.
    pub endpoint: String,
    /// Which part of the calls without a `traceparent` is traced, from 0 to 1.
    pub sample: f64,
    /// What the spans' resource is called.
    pub service_name: String,
}

/// What traces calls, for [`crate::watched::Watching`].
#[derive(Clone, Debug)]
pub struct Traces {
    ready: Option<Ready>,
}

#[derive(Clone, Debug)]
struct Ready {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    counted: Counted,
}

impl Traces {
    /// Traces nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self { ready: None }
    }

    /// Traces calls. Spans are sent by the Tokio runtime that this is called on.
    ///
    /// # Errors
    /// Where the endpoint is no address, or no HTTP client can be made.
    pub fn new(options: &TraceOptions, metrics: &Metrics) -> Result<Self, TraceError> {
        let counted = Counted::new(metrics);
        let provider = send::provider(options, counted.clone())?;
        let tracer = provider.tracer("grid-server");
        Ok(Self { ready: Some(Ready { provider, tracer, counted }) })
    }

    /// Sends the spans so far, and takes no more; waits for that until `patience` is over.
    pub async fn end(&self, patience: Duration) {
        let Some(Ready { provider, .. }) = self.ready.clone() else { return };
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(patience)).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "the last spans did not reach their collector");
        }
    }
}

impl Watch for Traces {
    type Call = TracedCall;

    fn begin<B>(&self, request: &mut Request<B>) -> Option<TracedCall> {
        let ready = self.ready.as_ref()?;
        let span = ready.span(|| name(request.uri().path()), request.headers())?;
        let stages = CallTrace::default();
        request.extensions_mut().insert(stages.clone());
        let instance = request.extensions().get::<CallInstance>().cloned().unwrap_or_default();
        Some(TracedCall { ready: ready.clone(), span, instance, stages, code: None })
    }
}

impl Ready {
    /// A span of a server; `None` where the call is not traced.
    fn span(&self, name: impl FnOnce() -> String, headers: &HeaderMap) -> Option<Span> {
        let client =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers));
        let span = self.tracer.span_builder(name()).with_kind(SpanKind::Server);
        let span = span.start_with_context(&self.tracer, &client);
        span.is_recording().then_some(span)
    }
}

/// What traces requests of the HTTP cache, for [`crate::watched::Watching`].
#[derive(Clone, Debug)]
pub struct HttpTraces(pub Traces);

impl Watch for HttpTraces {
    type Call = TracedRequest;

    fn begin<B>(&self, request: &mut Request<B>) -> Option<TracedRequest> {
        let ready = self.0.ready.as_ref()?;
        let Asked { method, kind } = asked(request);
        let span = ready.span(|| format!("{method} {kind}"), request.headers())?;
        Some(TracedRequest { ready: ready.clone(), span, method, status: None })
    }
}

/// A request of the HTTP cache that is traced.
#[derive(Debug)]
pub struct TracedRequest {
    ready: Ready,
    span: Span,
    method: &'static str,
    status: Option<StatusCode>,
}

impl Watched for TracedRequest {
    fn answered(&mut self, status: StatusCode, _: &HeaderMap) {
        self.status = Some(status);
    }
}

impl Drop for TracedRequest {
    fn drop(&mut self) {
        self.span.set_attribute(KeyValue::new("http.request.method", self.method));
        match self.status {
            Some(status) => {
                self.span
                    .set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
                if status.is_server_error() {
                    self.span.set_status(Status::error(status.as_str().to_owned()));
                }
            }
            None => self.span.set_status(Status::error("the client went away")),
        }
        self.ready.counted.add("made", 1);
        self.span.end_with_timestamp(SystemTime::now());
    }
}

/// The name of a call's span: its full method without the slash before it. It comes from outside, and is cut.
fn name(path: &str) -> String {
    path.trim_start_matches('/').chars().take(MAX_NAME).collect()
}

/// A call that is traced.
#[derive(Debug)]
pub struct TracedCall {
    ready: Ready,
    span: Span,
    instance: CallInstance,
    stages: CallTrace,
    code: Option<&'static str>,
}

impl Watched for TracedCall {
    fn answered(&mut self, _: StatusCode, headers: &HeaderMap) {
        self.trailers(headers);
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        self.code = code(trailers).or(self.code);
    }
}

impl Drop for TracedCall {
    fn drop(&mut self) {
        let code = self.code.unwrap_or("Canceled");
        self.span.set_attribute(KeyValue::new("rpc.system", "grpc"));
        self.span.set_attribute(KeyValue::new("rpc.grpc.status", code));
        self.span.set_attribute(KeyValue::new("grid.instance", self.instance.label().to_owned()));
        if code != "OK" {
            self.span.set_status(Status::error(code));
        }
        let stages = self.stages.take();
        self.ready.counted.add("made", 1 + stages.len());
        let above = Context::new().with_remote_span_context(self.span.span_context().clone());
        for stage in stages {
            let span = self.ready.tracer.span_builder(stage.name).with_start_time(stage.start);
            let mut span = span.start_with_context(&self.ready.tracer, &above);
            if !stage.worker.is_empty() {
                span.set_attribute(KeyValue::new("grid.worker", stage.worker));
            }
            span.end_with_timestamp(stage.end);
        }
        self.span.end_with_timestamp(SystemTime::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_are_cut() {
        assert_eq!(name("/google.bytestream.ByteStream/Read"), "google.bytestream.ByteStream/Read");
        assert_eq!(name(&"é".repeat(1_000)).chars().count(), MAX_NAME);
    }
}
