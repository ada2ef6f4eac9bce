//! The worker's metrics, in Prometheus' text format on the admin port.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;

use crate::execute::Outcome;

/// Labels of finished actions.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct OfOutcome {
    /// The lease status, as gRPC names it.
    status: String,
    /// Whether the command ended with 0; only where it ran.
    success: String,
}

/// What the worker counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// 1 while the server answers.
    pub connected: Gauge,
    /// Actions under way.
    pub running: Gauge,
    /// 1 while the worker takes work.
    pub healthy: Gauge,
    /// 1 while the grid drains the worker.
    pub draining: Gauge,
    /// Seconds that what runs may still run while the grid drains the worker, when it last said so.
    pub drain_seconds: Gauge,
    /// Bytes of cached files.
    pub cache_bytes: Gauge,
    /// Number of cached files.
    pub cache_files: Gauge,
    /// Cached files that had changed on disk and were dropped.
    pub cache_corrupt: Counter,
    /// Directories of actions that are still to be removed.
    pub remains: Gauge,
    actions: Family<OfOutcome, Counter<u64, AtomicU64>>,
    seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("grid_worker");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let connected = gauge("connected", "1 while the server answers");
        let running = gauge("actions_running", "Actions under way");
        let healthy = gauge("healthy", "1 while the worker takes work");
        let draining = gauge("draining", "1 while the grid drains the worker");
        let left = "Seconds that what runs may still run, as the grid last said; 0 where it does not drain the worker";
        let drain_seconds = gauge("drain_seconds", left);
        let cache_bytes = gauge("cache_bytes", "Bytes of cached files");
        let cache_files = gauge("cache_files", "Cached files");
        let remains = gauge("remains", "Directories of actions that are still to be removed");
        let cache_corrupt = Counter::default();
        let help = "Cached files that had changed on disk and were dropped";
        registry.register("cache_corrupt", help, cache_corrupt.clone());
        let actions = Family::default();
        registry.register("actions", "Finished actions by lease status", actions.clone());
        let seconds = Histogram::new(exponential_buckets(0.001, 2.0, 22));
        registry.register_with_unit("execution", "Time that commands ran", Unit::Seconds, seconds.clone());
        Self {
            registry,
            connected,
            running,
            healthy,
            draining,
            drain_seconds,
            cache_bytes,
            cache_files,
            cache_corrupt,
            remains,
            actions,
            seconds,
        }
    }
}

impl Metrics {
    /// Counts a finished action.
    pub fn finished(&self, outcome: &Outcome) {
        let status = format!("{:?}", Code::from_i32(outcome.status.code));
        let success = outcome.result.as_ref().map(|r| (r.exit_code == 0).to_string()).unwrap_or_default();
        self.actions.get_or_create(&OfOutcome { status, success }).inc();
        let ran = outcome
            .result
            .as_ref()
            .and_then(|r| r.execution_metadata.as_ref()?.virtual_execution_duration)
            .and_then(|d| std::time::Duration::try_from(d).ok());
        if let Some(ran) = ran {
            self.seconds.observe(ran.as_secs_f64());
        }
    }

    /// All metrics as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
