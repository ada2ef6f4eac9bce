//! On a cluster, from one manifest to a finished build through the TLS ingress.

use anyhow::{Context, Result};
use regex::Regex;

use super::builds::{self, DOWNLOAD_ALL};
use super::on_cluster::TestGrid;
use super::recc;
use crate::kube::Kube;
use crate::{grid, pods, process};

/// Every action of a clean build runs on the pools, the outputs are a local build's and do what they should, and a
/// second clean build runs none; so it is with recc; what is shown of the grid is useful, a second pass over it writes nothing, and its
/// deletion leaves nothing.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn build() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, "ingress-test", &[], "buildgrid.yaml")?;
    let (mut workspace, clients) = test.bazel("demo")?;
    let flags = [DOWNLOAD_ALL.to_owned()];
    builds::clean_then_cached(&cluster, &mut workspace, &clients, &[grid::bazelrc()], &flags)?;
    recc::through_ingress(&test)?;
    columns(&test)?;
    second_pass(&test)?;
    test.delete()
}

/// `kubectl get` shows what a person wants to know at a glance.
fn columns(test: &TestGrid<'_>) -> Result<()> {
    for (kind, wanted) in [
        ("grid", &["NAME", "READY", "ADDRESS", "VERSION", "AGE"][..]),
        ("pool", &["NAME", "GRID", "READY", "DESIRED", "WORKERS", "AGE"][..]),
    ] {
        let shown = process::output(&mut test.kube.kubectl(["get", "--namespace", test.namespace, kind]))?;
        let header = shown.lines().next().unwrap_or_default();
        let missing: Vec<_> = wanted.iter().filter(|w| !header.contains(**w)).collect();
        anyhow::ensure!(missing.is_empty(), "kubectl get {kind} shows no {missing:?}: {header}");
    }
    Ok(())
}

/// An operator that starts anew looks at everything once more, and writes none of it.
fn second_pass(test: &TestGrid<'_>) -> Result<()> {
    let before = writes(&test.kube)?;
    for pod in pods::names(&test.kube, "grid-system", "app.kubernetes.io/name=grid-operator")? {
        pods::kill(&test.kube, "grid-system", &pod, "grid-operator")?;
    }
    wait_for_pass(test)?;
    let after = writes(&test.kube)?;
    let written: Vec<_> = after.iter().filter(|count| !before.contains(count)).collect();
    anyhow::ensure!(
        written.is_empty(),
        "the second pass wrote; counts of requests since the start: {written:#?}"
    );
    Ok(())
}

/// Waits until the operator that leads has looked at each of the test's objects.
fn wait_for_pass(test: &TestGrid<'_>) -> Result<()> {
    let objects = test.names("grid,pool")?.len() as u64;
    let operators = pods::names(&test.kube, "grid-system", "app.kubernetes.io/name=grid-operator")?;
    let looked = pods::Count { port: 8982, series: "grid_operator_reconciles_total", labels: "" };
    looked.wait(&test.kube, "grid-system", &operators, objects)
}

/// How many mutating requests the API server has had for each kind of object that the operator writes, Leases and
/// Events apart, and apart from what Kubernetes' own controllers write: the status of workloads.
fn writes(kube: &Kube<'_>) -> Result<Vec<(String, u64)>> {
    let text = process::output(&mut kube.kubectl(["get", "--raw", "/metrics"]))?;
    let line = Regex::new(r#"(?m)^apiserver_request_total\{([^}]*)\} ([0-9.e+]+)$"#)?;
    let kinds = Regex::new(
        r#"resource="(buildgrids|casstorages|workerpools|deployments|statefulsets|services|configmaps|secrets|ingresses|serviceaccounts|jobs|cronjobs|poddisruptionbudgets|networkpolicies)""#,
    )?;
    let verbs = Regex::new(r#"verb="(POST|PUT|PATCH|APPLY|DELETE|DELETECOLLECTION)""#)?;
    let others = Regex::new(r#"subresource="(token|status)""#)?;
    let mut found = Vec::new();
    for captures in line.captures_iter(&text) {
        let operators = captures[1].contains("group=\"grid.build\"") || !others.is_match(&captures[1]);
        if operators && kinds.is_match(&captures[1]) && verbs.is_match(&captures[1]) {
            let count: f64 = captures[2].parse().with_context(|| format!("no number: {}", &captures[2]))?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count of requests"
            )]
            found.push((captures[1].to_owned(), count as u64));
        }
    }
    found.sort();
    Ok(found)
}
