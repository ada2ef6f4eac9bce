//! How spans reach their collector: OpenTelemetry's batches and its OTLP over HTTP, through our own HTTP client.
//!
//! The SDK sends from a thread of its own, which has no Tokio runtime: [`Sender`] has the server's do it. What a collector does not take
//! is lost: a trace is never worth the memory that a collector's outage would cost.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter,
};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use thiserror::Error;
use tokio::runtime::Handle;

use super::TraceOptions;
use crate::Metrics;

/// How many spans may wait to be sent; more are dropped.
const WAITING: usize = 8_192;
/// How many are sent at once.
const BATCH: usize = 512;
/// How long the first of a batch waits for the others.
const LINGER: Duration = Duration::from_secs(1);
/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often its trouble is told.
const TOLD: Duration = Duration::from_secs(60);

/// Why calls can't be traced.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The collector's address is none.
    #[error("traces can't be sent: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// There is no HTTP client.
    #[error("traces can't be sent: {0}")]
    Client(#[from] reqwest::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Fate {
    fate: &'static str,
}

/// What became of spans.
#[derive(Clone, Debug)]
pub(super) struct Counted(Family<Fate, Counter>);

impl Counted {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let counted = Self(Family::default());
        let help = "Spans of traces: made, sent, refused by the collector; what is made and neither waits or was dropped";
        metrics.register("trace_spans", help, &counted.0);
        counted
    }

    pub(super) fn add(&self, fate: &'static str, spans: usize) {
        self.0.get_or_create(&Fate { fate }).inc_by(spans as u64);
    }
}

/// What makes spans of the calls that `options` choose, and sends them.
pub(super) fn provider(options: &TraceOptions, counted: Counted) -> Result<SdkTracerProvider, TraceError> {
    let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Sender { client, runtime: Handle::current() })
        .with_endpoint(format!("{}/v1/traces", options.endpoint.trim_end_matches('/')))
        .with_timeout(TIMEOUT)
        .build()?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(WAITING)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(LINGER)
        .build();
    let counting = Counting { exporter, counted, told: Mutex::default() };
    let resource = Resource::builder_empty()
        .with_service_name(options.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    Ok(SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(counting).with_batch_config(batches).build())
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(options.sample))))
        .with_resource(resource.build())
        .build())
}

/// An exporter that tells what became of spans.
#[derive(Debug)]
struct Counting {
    exporter: opentelemetry_otlp::SpanExporter,
    counted: Counted,
    told: Mutex<Option<Instant>>,
}

impl SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        match &sent {
            Ok(()) => self.counted.add("sent", spans),
            Err(error) => {
                self.counted.add("refused", spans);
                let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if told.is_none_or(|told| told.elapsed() > TOLD) {
                    *told = Some(Instant::now());
                    tracing::warn!(%error, "the collector of traces does not take spans; they are lost");
                }
            }
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// An HTTP client that works on the server's runtime, whichever thread asks it to.
#[derive(Debug)]
struct Sender {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let mut answer = client.execute(request.try_into()?).await?;
            let headers = std::mem::take(answer.headers_mut());
            let mut response = Response::builder().status(answer.status()).body(answer.bytes().await?)?;
            *response.headers_mut() = headers;
            Ok::<_, HttpError>(response)
        });
        sent.await?
    }
}
