//! [`Metrics`]: the registry behind `/metrics`.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::registry::{Metric, Registry};

/// The media type of what [`Metrics::encode`] gives.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A registry of metrics, shared by all parts of a process.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { registry: Arc::new(Mutex::new(Registry::with_prefix("grid"))) }
    }
}

impl Metrics {
    /// Adds a metric, which is `Clone` and shares its state with its clones. The name gets the prefix `grid_`; a counter's
    /// gets the suffix `_total`.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: &M) {
        self.registry.lock().register(name, help, metric.clone());
    }

    /// Adds figures that are read when they are asked for.
    pub fn register_collector(&self, collector: Box<dyn Collector>) {
        self.registry.lock().register_collector(collector);
    }

    /// All metrics in OpenMetrics text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string doesn't fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry.lock());
        text
    }

    /// The media type of the text.
    #[must_use]
    pub const fn content_type() -> &'static str {
        CONTENT_TYPE
    }
}
