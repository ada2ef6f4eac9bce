//! The chart as Helm sees it: installed, tested, changed, rolled back, removed and installed again, a grid living on.

use anyhow::Result;

use super::on_cluster::TestGrid;
use crate::{environment, grid, process};

/// `helm install`, `test`, `upgrade`, `rollback` and `uninstall` work; the resources and the grid's pods outlive the
/// operator, and a later installation takes them over.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn lifecycle() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, "chart-test", &[], "minimal.yaml")?;
    let pods = test.names("pods")?;
    let helm = |words: &[&str]| process::run(test.kube.helm(words).args(["--namespace", "grid-system"]));
    helm(&["test", "grid-operator", "--timeout", "2m"])?;
    let chart = environment::root().join("charts/grid-operator");
    let chart = chart.to_string_lossy();
    let two = ["--set", "image.registry=localhost", "--set", "replicas=2", "--wait", "--timeout", "3m"];
    helm(&[&["upgrade", "grid-operator", &*chart], &two[..]].concat())?;
    helm(&["rollback", "grid-operator", "--wait", "--timeout", "3m"])?;
    let refused = process::capture(
        test.kube
            .helm(["upgrade", "grid-operator", &*chart, "--set", "image.registry="])
            .args(["--namespace", "grid-system"]),
    )?;
    anyhow::ensure!(
        !refused.success && refused.text.contains("registry"),
        "helm took a chart without image.registry: {}",
        refused.text
    );
    helm(&["uninstall", "grid-operator", "--wait", "--timeout", "3m"])?;
    anyhow::ensure!(test.names("pods")? == pods, "the grid's pods did not outlive the operator");
    grid::install(&test.kube, "localhost")?;
    for object in test.names("grid")? {
        test.kube.wait(test.namespace, &object, "condition=Ready", 120)?;
    }
    anyhow::ensure!(test.names("pods")? == pods, "the new installation replaced the grid's pods");
    test.delete()
}
