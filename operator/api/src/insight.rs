//! What is made for those who watch a grid: objects of the Prometheus operator, a dashboard for Grafana.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Objects for monitoring. Prometheus's kinds need the CRDs of its operator; where they are missing, a condition says
/// so and everything else goes on.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MonitoringSpec {
    /// Labels of the PodMonitor and the PrometheusRule, by which a Prometheus picks them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    pub labels: Option<BTreeMap<String, String>>,
    /// How often metrics are fetched.
    #[serde(default = "MonitoringSpec::default_interval")]
    #[schemars(length(max = 8), regex(pattern = r"^[1-9][0-9]*(s|m)$"))]
    pub interval: String,
    /// Alerts, each with a runbook.
    #[serde(default = "MonitoringSpec::default_true")]
    pub alerts: bool,
    /// A ConfigMap with the dashboard, labelled for Grafana's sidecar (`grafana_dashboard: "1"`).
    #[serde(default = "MonitoringSpec::default_true")]
    pub dashboard: bool,
}

impl MonitoringSpec {
    fn default_interval() -> String {
        "30s".into()
    }

    fn default_true() -> bool {
        true
    }
}

impl Default for MonitoringSpec {
    fn default() -> Self {
        Self { labels: None, interval: Self::default_interval(), alerts: true, dashboard: true }
    }
}
