//! [`Exporter`]: sends spans to a collector, by OTLP over HTTP in its JSON form, many at a time.
//!
//! What a collector does not take is lost: a trace is never worth the memory that a collector's outage would cost.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::span::{Span, attributes};
use super::{Counted, TraceOptions};

/// How many spans are sent at once.
const BATCH: usize = 512;
/// How long the first of a batch waits for the others.
const LINGER: Duration = Duration::from_secs(1);
/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often its trouble is told.
const TOLD: Duration = Duration::from_secs(60);

/// What the exporter is told.
pub(super) enum Said {
    /// A call's spans.
    Spans(Vec<Span>),
    /// Send what there is, and tell.
    Flush(oneshot::Sender<()>),
}

/// Sends spans.
pub(super) struct Exporter {
    client: reqwest::Client,
    url: String,
    service_name: String,
    counted: Counted,
    told: Option<Instant>,
}

impl Exporter {
    pub(super) fn new(options: TraceOptions, counted: Counted) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        let url = format!("{}/v1/traces", options.endpoint.trim_end_matches('/'));
        Ok(Self { client, url, service_name: options.service_name, counted, told: None })
    }

    /// Sends what comes, until nobody can say anything more.
    pub(super) async fn run(mut self, mut said: mpsc::Receiver<Said>) {
        while let Some(first) = said.recv().await {
            let (spans, flushed) = gather(first, &mut said).await;
            self.send(&spans).await;
            if let Some(flushed) = flushed {
                let _ = flushed.send(());
            }
        }
    }

    async fn send(&mut self, spans: &[Span]) {
        if spans.is_empty() {
            return;
        }
        let sent = self.client.post(&self.url).json(&self.request(spans)).send().await;
        match sent.and_then(reqwest::Response::error_for_status) {
            Ok(_) => self.counted.add("sent", spans.len()),
            Err(error) => {
                self.counted.add("refused", spans.len());
                if self.told.is_none_or(|told| told.elapsed() > TOLD) {
                    self.told = Some(Instant::now());
                    tracing::warn!(%error, "the collector of traces does not take spans; they are lost");
                }
            }
        }
    }

    /// `opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest`.
    fn request(&self, spans: &[Span]) -> Value {
        let resource = attributes(&[
            ("service.name", self.service_name.clone()),
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ]);
        let spans: Vec<Value> = spans.iter().map(Span::to_json).collect();
        json!({"resourceSpans": [{
            "resource": {"attributes": resource},
            "scopeSpans": [{"scope": {"name": "grid-server"}, "spans": spans}],
        }]})
    }
}

/// A batch: until it is full, has waited long enough, or is asked for.
async fn gather(first: Said, said: &mut mpsc::Receiver<Said>) -> (Vec<Span>, Option<oneshot::Sender<()>>) {
    let mut spans = match first {
        Said::Spans(spans) => spans,
        Said::Flush(flushed) => return (Vec::new(), Some(flushed)),
    };
    let end = Instant::now() + LINGER;
    while spans.len() < BATCH {
        match timeout_at(end, said.recv()).await {
            Ok(Some(Said::Spans(more))) => spans.extend(more),
            Ok(Some(Said::Flush(flushed))) => return (spans, Some(flushed)),
            Ok(None) | Err(_) => break,
        }
    }
    (spans, None)
}
