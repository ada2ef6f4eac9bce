//! Whether what the server depends on answers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    dependency: String,
}

/// A gauge for each dependency: 1 where it answered when it was last asked, else 0.
#[derive(Clone, Debug)]
pub struct Dependencies {
    up: Family<Labels, Gauge>,
}

impl Dependencies {
    /// The gauges, in a registry.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let up = Family::default();
        metrics.register("dependency_up", "Whether a dependency answered when it was last asked", &up);
        Self { up }
    }

    /// Records what came of asking.
    pub fn set(&self, dependency: &str, up: bool) {
        self.up.get_or_create(&Labels { dependency: dependency.to_owned() }).set(i64::from(up));
    }
}
