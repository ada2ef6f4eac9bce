//! What the operator counts.

use std::time::Duration;

use grid_operator_apply::Leadership;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciled {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

/// The operator's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    reconciles: Family<Reconciled, Counter>,
    duration: Family<ByKind, Histogram>,
    leader: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("grid_operator");
        let reconciles = Family::default();
        let duration = Family::<ByKind, Histogram>::new_with_constructor(|| {
            Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
        });
        let leader = Gauge::default();
        registry.register("reconciles", "Reconciliations, by kind and result", reconciles.clone());
        registry.register_with_unit("reconcile", "Time of a reconciliation", Unit::Seconds, duration.clone());
        registry.register("leader", "Whether this replica writes", leader.clone());
        Self { registry, reconciles, duration, leader }
    }

    /// `result` is `ok`, `conflict` where someone else wrote first, or `error`.
    pub(crate) fn reconciled(&self, kind: &'static str, result: &'static str, took: Duration) {
        self.reconciles.get_or_create(&Reconciled { kind, result }).inc();
        self.duration.get_or_create(&ByKind { kind }).observe(took.as_secs_f64());
    }

    /// All of them in the OpenMetrics text format.
    pub(crate) fn text(&self, leadership: &Leadership) -> Result<String, std::fmt::Error> {
        self.leader.set(i64::from(leadership.is_held()));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
