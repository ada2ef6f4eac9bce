//! [`Traces`]: a span for each call that its client traces, or that is chosen here, with the stages of its action as its children.
//!
//! Calls are joined to the client's trace by `traceparent`; those without one are chosen by a ratio. Of a call that is not
//! traced nothing is kept. Spans go to a collector by OTLP ([`export`]), and rather get lost than hold up a call: the
//! metric `trace_spans` tells how many did.

mod export;
mod span;

use std::time::{Duration, SystemTime};

use grid_core::{CallInstance, CallTrace, TraceParent};
use http::{HeaderMap, Request, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::{mpsc, oneshot};

use self::export::{Exporter, Said};
use self::span::{Kind, Span};
use crate::Metrics;
use crate::rpc::code;
use crate::watched::{Watch, Watched};

/// How many spans may wait to be sent.
const WAITING: usize = 8_192;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Fate {
    fate: &'static str,
}

/// What became of spans.
#[derive(Clone, Debug)]
struct Counted(Family<Fate, Counter>);

impl Counted {
    fn add(&self, fate: &'static str, spans: usize) {
        self.0.get_or_create(&Fate { fate }).inc_by(spans as u64);
    }
}

/// What traces calls, for [`crate::watched::Watching`].
#[derive(Clone, Debug)]
pub struct Traces {
    ready: Option<Ready>,
}

#[derive(Clone, Debug)]
struct Ready {
    sample: f64,
    spans: mpsc::Sender<Said>,
    counted: Counted,
}

impl Traces {
    /// Traces nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self { ready: None }
    }

    /// Traces calls; what is given beside sends them, and is to be spawned.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(
        options: TraceOptions,
        metrics: &Metrics,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), reqwest::Error> {
        let counted = Counted(Family::default());
        metrics.register("trace_spans", "Spans of traces, by what became of them", &counted.0);
        let (spans, waiting) = mpsc::channel(WAITING);
        let sample = options.sample;
        let exporter = Exporter::new(options, counted.clone())?;
        Ok((Self { ready: Some(Ready { sample, spans, counted }) }, exporter.run(waiting)))
    }

    /// Waits until the spans so far have been sent, or `patience` is over.
    pub async fn flush(&self, patience: Duration) {
        let Some(ready) = &self.ready else { return };
        let (sent, is_sent) = oneshot::channel();
        let flush = async {
            if ready.spans.send(Said::Flush(sent)).await.is_ok() {
                let _ = is_sent.await;
            }
        };
        let _ = tokio::time::timeout(patience, flush).await;
    }
}

impl Ready {
    /// The trace of a call and its client's span, where it is traced.
    fn chosen(&self, headers: &HeaderMap) -> Option<(u128, u64)> {
        let parent = headers.get("traceparent").and_then(|text| TraceParent::parse(text.to_str().ok()?));
        match parent {
            Some(parent) => parent.sampled.then_some((parent.trace, parent.span)),
            None if self.sample > 0.0 && rand::random::<f64>() < self.sample => {
                Some((rand::random::<u128>().max(1), 0))
            }
            None => None,
        }
    }
}

impl Watch for Traces {
    type Call = TracedCall;

    fn begin<B>(&self, request: &mut Request<B>) -> Option<TracedCall> {
        let ready = self.ready.as_ref()?;
        let (trace, parent) = ready.chosen(request.headers())?;
        let stages = CallTrace::default();
        request.extensions_mut().insert(stages.clone());
        let instance = request.extensions().get::<CallInstance>().cloned().unwrap_or_default();
        Some(TracedCall {
            ready: ready.clone(),
            trace,
            id: rand::random::<u64>().max(1),
            parent,
            path: span::name(request.uri().path()),
            instance,
            stages,
            start: SystemTime::now(),
            code: None,
        })
    }
}

/// A call that is traced.
#[derive(Debug)]
pub struct TracedCall {
    ready: Ready,
    trace: u128,
    id: u64,
    parent: u64,
    path: String,
    instance: CallInstance,
    stages: CallTrace,
    start: SystemTime,
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
        let stages = self.stages.take();
        let mut spans = Vec::with_capacity(1 + stages.len());
        let code = self.code.unwrap_or("Canceled");
        spans.push(Span {
            trace: self.trace,
            id: self.id,
            parent: self.parent,
            kind: Kind::Server,
            name: std::mem::take(&mut self.path),
            start: self.start,
            end: SystemTime::now(),
            attributes: vec![
                ("rpc.system", "grpc".to_owned()),
                ("rpc.grpc.status", code.to_owned()),
                ("grid.instance", self.instance.label().to_owned()),
            ],
            failed: code != "OK",
        });
        spans.extend(stages.into_iter().map(|stage| Span {
            trace: self.trace,
            id: rand::random::<u64>().max(1),
            parent: self.id,
            kind: Kind::Internal,
            name: stage.name.to_owned(),
            start: stage.start,
            end: stage.end,
            attributes: vec![("grid.worker", stage.worker)],
            failed: false,
        }));
        let count = spans.len();
        if self.ready.spans.try_send(Said::Spans(spans)).is_err() {
            self.ready.counted.add("dropped", count);
        }
    }
}
