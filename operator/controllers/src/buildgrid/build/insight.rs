//! What watches a grid: a PodMonitor over its servers and pools, alerts, and a dashboard.

use std::collections::BTreeMap;

use grid_operator_api::MonitoringSpec;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::super::validate::Grid;
use crate::foreign::{Foreign, POD_MONITOR, PROMETHEUS_RULE};
use crate::insight::{ALERTS, dashboard as render};
use crate::names::{GRID, servers_of};

const COMPONENT: &str = "monitoring";

/// PodMonitors and alerts, where they are asked for.
pub(super) fn foreign(grid: &Grid<'_>) -> Vec<Foreign> {
    let Some(monitoring) = &grid.spec.monitoring else { return vec![] };
    let names = grid.names();
    let servers = json!(servers_of(&grid.owner.name));
    let workers = json!({"matchLabels": {GRID: grid.owner.name}});
    let mut objects = vec![
        pod_monitor(grid, monitoring, names.component("servers"), &servers),
        pod_monitor(grid, monitoring, names.component("workers"), &workers),
    ];
    if monitoring.alerts {
        let metadata = metadata(grid, monitoring, grid.owner.name.clone());
        objects.push(Foreign::new(PROMETHEUS_RULE, &metadata, &rules(grid)));
    }
    objects
}

/// The dashboard, where it is asked for.
pub(super) fn dashboard(grid: &Grid<'_>) -> Option<ConfigMap> {
    grid.spec.monitoring.as_ref().filter(|monitoring| monitoring.dashboard)?;
    let mut metadata = grid.owner.meta(grid.names().dashboard(), COMPONENT);
    metadata.labels.get_or_insert_default().insert("grafana_dashboard".to_owned(), "1".to_owned());
    let (namespace, name) = (&grid.owner.namespace, &grid.owner.name);
    let file = format!("grid-{namespace}-{name}.json");
    Some(ConfigMap {
        metadata,
        data: Some(BTreeMap::from([(file, render(namespace, name).to_string())])),
        ..ConfigMap::default()
    })
}

fn metadata(grid: &Grid<'_>, monitoring: &MonitoringSpec, name: String) -> ObjectMeta {
    let mut metadata = grid.owner.meta(name, COMPONENT);
    let labels = metadata.labels.get_or_insert_default();
    for (key, value) in monitoring.labels.iter().flatten() {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    metadata
}

fn pod_monitor(grid: &Grid<'_>, monitoring: &MonitoringSpec, name: String, pods: &Value) -> Foreign {
    // Every series says which grid it is of: alerts and dashboards choose by it.
    let relabel = |source: &str, target: &str| json!({"sourceLabels": [source], "targetLabel": target});
    let spec = json!({
        "selector": pods,
        "podMetricsEndpoints": [{
            "port": "admin",
            "interval": monitoring.interval,
            "relabelings": [
                {"targetLabel": "grid", "replacement": grid.owner.name},
                relabel("__meta_kubernetes_pod_label_app_kubernetes_io_component", "component"),
                relabel("__meta_kubernetes_pod_label_app_kubernetes_io_instance", "resource"),
            ],
        }],
    });
    Foreign::new(POD_MONITOR, &metadata(grid, monitoring, name), &spec)
}

fn rules(grid: &Grid<'_>) -> Value {
    let of = format!("namespace=\"{}\",grid=\"{}\"", grid.owner.namespace, grid.owner.name);
    let rules: Vec<Value> = ALERTS
        .iter()
        .map(|alert| {
            json!({
                "alert": alert.name,
                "expr": alert.expression.replace("OF", &of),
                "for": alert.lasts,
                "labels": {"severity": alert.severity},
                "annotations": {"summary": alert.summary, "runbook": format!("docs/runbooks.md#{}", alert.name.to_lowercase())},
            })
        })
        .collect();
    json!({"groups": [{"name": format!("grid-{}", grid.owner.name), "rules": rules}]})
}
