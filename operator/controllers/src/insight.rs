//! The alerts and dashboards of a grid, as data: what they ask of Prometheus, and what that means.
//!
//! `OF` in an expression stands for the labels that choose one grid. A test compares every metric that is named here
//! with those that the programs have, and every alert with its runbook.

use serde_json::{Value, json};

/// One alert.
pub(crate) struct Alert {
    pub(crate) name: &'static str,
    pub(crate) expression: &'static str,
    /// How long it must hold.
    pub(crate) lasts: &'static str,
    pub(crate) severity: &'static str,
    pub(crate) summary: &'static str,
}

const fn alert(
    name: &'static str,
    severity: &'static str,
    lasts: &'static str,
    expression: &'static str,
    summary: &'static str,
) -> Alert {
    Alert { name, expression, lasts, severity, summary }
}

/// Every alert; each has its runbook in `docs/runbooks.md`.
pub(crate) const ALERTS: &[Alert] = &[
    alert(
        "GridDependencyDown",
        "critical",
        "2m",
        "min by (dependency) (grid_dependency_up{OF}) == 0",
        "A database or storage that the grid needs doesn't answer: calls wait, then fail.",
    ),
    alert(
        "GridCallsFail",
        "critical",
        "5m",
        "sum(rate(grid_rpc_handled_total{OF,grpc_code=~\"Internal|Unavailable|DataLoss|Unknown\"}[5m])) / sum(rate(grid_rpc_handled_total{OF}[5m])) > 0.01",
        "More than one call in a hundred fails by the grid's own fault.",
    ),
    alert(
        "GridCallsRefused",
        "warning",
        "10m",
        "sum(rate(grid_rpc_handled_total{OF,grpc_code=\"ResourceExhausted\"}[5m])) > 0.1",
        "Calls are refused because queues are full.",
    ),
    alert(
        "GridSlowExistenceChecks",
        "warning",
        "10m",
        "histogram_quantile(0.99, sum by (le) (rate(grid_rpc_seconds_bucket{OF,grpc_method=\"FindMissingBlobs\"}[5m]))) > 5",
        "One call in a hundred that asks which blobs are missing takes more than five seconds.",
    ),
    alert(
        "GridStorageFails",
        "warning",
        "10m",
        "sum by (store) (rate(grid_store_calls_total{OF,result=\"error\"}[5m])) > 0.1",
        "A storage answers with errors.",
    ),
    alert(
        "GridEvictsFreshBlobs",
        "warning",
        "15m",
        "histogram_quantile(0.1, sum by (le, store) (rate(grid_store_evicted_unused_seconds_bucket{OF}[15m]))) < 3600",
        "Blobs leave the storage within an hour of their last use: it is too small for what is built.",
    ),
    alert(
        "GridDeferredWritesLost",
        "critical",
        "0m",
        "increase(grid_store_deferred_lost_total{OF}[15m]) > 0",
        "Writes that were answered before they were durable have failed for good.",
    ),
    alert(
        "GridWorkersUnhealthy",
        "warning",
        "10m",
        "sum(grid_worker_healthy{OF}) / count(grid_worker_healthy{OF}) < 0.8",
        "A fifth of the workers takes no work.",
    ),
    alert(
        "GridWorkersDisconnected",
        "critical",
        "5m",
        "sum(grid_worker_connected{OF}) == 0",
        "No worker reaches the grid.",
    ),
    alert(
        "GridQueueTimeUnusual",
        "warning",
        "15m",
        "sum by (pool) (rate(grid_scheduler_queue_seconds_sum{OF}[10m])) / sum by (pool) (rate(grid_scheduler_queue_seconds_count{OF}[10m])) > 30 + 3 * sum by (pool) (rate(grid_scheduler_queue_seconds_sum{OF}[7d])) / sum by (pool) (rate(grid_scheduler_queue_seconds_count{OF}[7d]))",
        "Actions wait for a pool three times as long as they have in the week before, and half a minute more.",
    ),
    alert(
        "GridServerMemory",
        "warning",
        "15m",
        "deriv(grid_process_resident_memory_bytes{OF}[30m]) > 1048576",
        "A server's memory has grown by more than a MiB a second for half an hour.",
    ),
];

/// Title, unit as Grafana calls it, legend, expression.
type Panel = (&'static str, &'static str, &'static str, &'static str);

/// Rows of panels.
const ROWS: &[(&str, &[Panel])] = &[
    (
        "Server",
        &[
            (
                "Calls",
                "reqps",
                "{{grpc_method}}",
                "sum by (grpc_method) (rate(grid_rpc_handled_total{OF}[1m]))",
            ),
            (
                "Failed calls",
                "reqps",
                "{{grpc_method}} {{grpc_code}}",
                "sum by (grpc_method, grpc_code) (rate(grid_rpc_handled_total{OF,grpc_code!~\"OK|Canceled|NotFound\"}[1m]))",
            ),
            (
                "Time of calls, p99",
                "s",
                "{{grpc_method}}",
                "histogram_quantile(0.99, sum by (le, grpc_method) (rate(grid_rpc_seconds_bucket{OF,grpc_method!~\"Execute|WaitExecution|UpdateBotSession|Read|Write\"}[5m])))",
            ),
            ("Calls under way", "short", "{{grpc_method}}", "sum by (grpc_method) (grid_rpc_in_flight{OF})"),
            ("Dependencies", "short", "{{dependency}}", "min by (dependency) (grid_dependency_up{OF})"),
            ("Memory", "bytes", "{{pod}}", "grid_process_resident_memory_bytes{OF}"),
            ("Processor", "short", "{{pod}}", "rate(grid_process_cpu_seconds_total{OF}[1m])"),
        ],
    ),
    (
        "Storage",
        &[
            (
                "Content moved",
                "Bps",
                "{{store}} {{method}}",
                "sum by (store, method) (rate(grid_store_bytes_total{OF}[1m]))",
            ),
            (
                "Time of calls, p99",
                "s",
                "{{store}} {{method}}",
                "histogram_quantile(0.99, sum by (le, store, method) (rate(grid_store_call_seconds_bucket{OF}[5m])))",
            ),
            (
                "Cache answers",
                "ops",
                "{{store}} {{answer}}",
                "sum by (store, answer) (rate(grid_store_cache_total{OF}[1m]))",
            ),
            ("Evicted", "Bps", "{{store}}", "sum by (store) (rate(grid_store_evicted_bytes_total{OF}[5m]))"),
        ],
    ),
    (
        "Scheduler",
        &[
            (
                "Time in the queue, p50",
                "s",
                "{{pool}} {{priority}}",
                "histogram_quantile(0.5, sum by (le, pool, priority) (rate(grid_scheduler_queue_seconds_bucket{OF}[5m])))",
            ),
            (
                "Time in the queue, p99",
                "s",
                "{{pool}} {{priority}}",
                "histogram_quantile(0.99, sum by (le, pool, priority) (rate(grid_scheduler_queue_seconds_bucket{OF}[5m])))",
            ),
            ("Actions that wait", "short", "{{pool}}", "max by (pool) (grid_scheduler_pool_queued_jobs{OF})"),
            ("Actions that no pool fits", "short", "none fits", "max(grid_scheduler_unplaced_jobs{OF})"),
            ("Slots", "short", "{{pool}}", "max by (pool) (grid_scheduler_pool_slots{OF})"),
            ("Idle slots", "short", "{{pool}}", "max by (pool) (grid_scheduler_pool_idle_slots{OF})"),
        ],
    ),
    (
        "Pools",
        &[
            (
                "Actions under way",
                "short",
                "{{resource}}",
                "sum by (resource) (grid_worker_actions_running{OF})",
            ),
            (
                "Actions finished",
                "ops",
                "{{resource}} {{status}}",
                "sum by (resource, status) (rate(grid_worker_actions_total{OF}[1m]))",
            ),
            (
                "Time of commands, p50",
                "s",
                "{{resource}}",
                "histogram_quantile(0.5, sum by (le, resource) (rate(grid_worker_execution_seconds_bucket{OF}[5m])))",
            ),
            ("Workers", "short", "{{resource}}", "sum by (resource) (grid_worker_healthy{OF})"),
            ("Cached inputs", "bytes", "{{resource}}", "sum by (resource) (grid_worker_cache_bytes{OF})"),
        ],
    ),
];

/// The dashboard of one grid.
pub(crate) fn dashboard(namespace: &str, grid: &str) -> Value {
    let of = format!("namespace=\"{namespace}\",grid=\"{grid}\"");
    let mut panels = vec![];
    let mut y = 0;
    for (row, of_row) in ROWS {
        panels.push(json!({"type": "row", "title": row, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}}));
        y += 1;
        for (index, (title, unit, legend, expression)) in of_row.iter().enumerate() {
            let (column, line) = (index % 2, index / 2);
            panels.push(json!({
                "type": "timeseries",
                "title": title,
                "gridPos": {"x": column * 12, "y": y + line * 8, "w": 12, "h": 8},
                "fieldConfig": {"defaults": {"unit": unit}},
                "targets": [{"expr": expression.replace("OF", &of), "legendFormat": legend}],
            }));
        }
        y += of_row.len().div_ceil(2) * 8;
    }
    json!({
        "uid": format!("grid-{namespace}-{grid}").chars().take(40).collect::<String>(),
        "title": format!("Build grid {namespace}/{grid}"),
        "tags": ["build grid"],
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "schemaVersion": 39,
        "panels": panels,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The programs' sources that define metrics, with the prefix of each.
    const SOURCES: [(&str, &str); 3] =
        [("grid_operator_", "operator"), ("grid_worker_", "grid-worker"), ("grid_", "grid-server")];

    fn sources(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                sources(&path, text);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("insight.rs") {
                text.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    fn metrics(expression: &str) -> Vec<String> {
        expression
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .filter(|word| word.starts_with("grid_"))
            .map(str::to_owned)
            .collect()
    }

    /// The name as the program registers it may lack what Prometheus's format adds.
    fn is_defined(metric: &str, sources: &str) -> bool {
        let endings =
            ["", "_total", "_bucket", "_sum", "_count", "_seconds", "_seconds_bucket", "_seconds_total"];
        endings
            .iter()
            .filter_map(|ending| metric.strip_suffix(ending))
            .any(|name| sources.contains(&format!("\"{name}\"")))
    }

    /// The operator's own alerts, which its chart installs: name and expression.
    fn of_the_operator() -> Vec<(String, String)> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/grid-operator/files/alerts.yaml");
        let file: Value = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let alerts = file["alerts"].as_array().unwrap();
        alerts.iter().map(|alert| (text(&alert["alert"]), text(&alert["expr"]))).collect()
    }

    /// What the panels of the operator's own dashboard ask for, which its chart installs.
    fn panels_of_the_operator() -> Vec<String> {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/grid-operator/files/dashboard.json");
        let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let panels = file["panels"].as_array().unwrap();
        let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
        targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
    }

    fn expressions() -> impl Iterator<Item = &'static str> {
        let panels = ROWS.iter().flat_map(|(_, panels)| panels.iter().map(|panel| panel.3));
        ALERTS.iter().map(|alert| alert.expression).chain(panels)
    }

    #[test]
    fn every_metric_that_is_asked_for_is_one_that_a_program_has() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut seen = 0;
        let own = of_the_operator().into_iter().map(|(_, expression)| expression);
        let own = own.chain(panels_of_the_operator()).flat_map(|expression| metrics(&expression));
        for metric in expressions().flat_map(metrics).chain(own) {
            let (prefix, folder) = SOURCES.iter().find(|(prefix, _)| metric.starts_with(prefix)).unwrap();
            let mut text = String::new();
            sources(&root.join(folder), &mut text);
            assert!(is_defined(&metric[prefix.len()..], &text), "{metric} is defined nowhere in {folder}");
            seen += 1;
        }
        assert!(seen > 20);
    }

    #[test]
    fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbooks.md");
        let text = std::fs::read_to_string(path).unwrap();
        let runbooks: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        let own = of_the_operator();
        let names = ALERTS.iter().map(|alert| alert.name).chain(own.iter().map(|(name, _)| name.as_str()));
        assert_eq!(runbooks, names.collect::<Vec<_>>());
    }

    #[test]
    fn every_expression_chooses_one_grid() {
        for expression in expressions() {
            assert_eq!(metrics(expression).len(), expression.matches("{OF").count(), "{expression}");
        }
        let dashboard = dashboard("builds", "demo").to_string();
        assert!(!dashboard.contains("{OF"));
        assert!(dashboard.contains(r#"namespace=\"builds\",grid=\"demo\""#));
    }
}
