//! What a grid goes through besides builds: its secrets are replaced, a node is emptied, an image isn't there.

use anyhow::{Context, Result};

use super::on_cluster::TestGrid;
use crate::{grid, process};

/// The pairs of the grid and of its tier.
const PAIRS: [&str; 4] = [
    "secret/demo-server-tls",
    "secret/demo-client-tls",
    "secret/blobs-server-tls",
    "secret/blobs-client-tls",
];
/// The Secret with the tokens.
const TOKENS: &str = "secret/demo-credentials";
/// The label of workers' pods.
const WORKERS: &str = "app.kubernetes.io/component=worker";
/// A pool whose image nobody has.
const NO_IMAGE: &str = "
apiVersion: grid.build/v1alpha1
kind: WorkerPool
metadata: {name: no-image}
spec: {gridRef: {name: grid}, image: localhost/no-such-toolchain:0, replicas: 1}
";

/// The parts of a grid and its tier speak by mutual TLS. All their certificates and tokens are replaced during builds:
/// no action fails and no pod is replaced.
///
/// # Errors
/// Where a build fails, or a pod is another than before.
pub(crate) fn rotations() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, "rotations-test", &[], "mutual-tls.yaml")?;
    let pods = test.names("pods")?;
    test.while_building(|_| {
        test.kubectl(&[&["delete"], &PAIRS[..]].concat())?;
        for pair in PAIRS {
            test.kube.wait(test.namespace, pair, "create", 60)?;
        }
        test.kubectl(&["annotate", "grid/demo", "grid.build/rotate-tokens=once"])?;
        // Each step of the tokens takes five minutes; files reach pods within two.
        for step in ["accept", "show"] {
            let at = format!("jsonpath={{.metadata.annotations.grid\\.build/rotation-step}}={step}");
            test.kube.wait(test.namespace, TOKENS, &at, 660)?;
        }
        Ok(())
    })?;
    anyhow::ensure!(test.names("pods")? == pods, "pods were replaced for new secrets");
    test.delete()
}

/// A node is cordoned during builds: its workers finish what they run and start elsewhere, and no build fails.
///
/// # Errors
/// Where a build fails, or a worker stays on the node.
pub(crate) fn drain() -> Result<()> {
    let cluster = grid::cluster_with_operator(2)?;
    let test = TestGrid::apply(&cluster, "drain-test", &["postgres.yaml"], "postgres.yaml")?;
    let worker = crate::pods::names(&test.kube, test.namespace, WORKERS)?;
    let worker = worker.first().context("the grid has no worker")?;
    let pod = test.kube.get(test.namespace, &format!("pod/{worker}"))?;
    let node = pod["spec"]["nodeName"].as_str().context("the worker is on no node")?.to_owned();
    let emptied = test.while_building(|_| {
        test.kubectl(&["cordon", &node])?;
        let there = format!("spec.nodeName={node}");
        let gone =
            ["wait", "--for=delete", "--timeout=300s", "pod", "-l", WORKERS, "--field-selector", &there];
        test.kubectl(&gone)?;
        for pool in test.names("pool")? {
            test.kube.wait(test.namespace, &pool, "condition=Ready", 120)?;
        }
        Ok(())
    });
    // The next test finds the node as this one did, whatever came of it.
    test.kubectl(&["uncordon", &node])?;
    emptied?;
    test.delete()
}

/// A pool whose image can't be pulled says so, and the support bundle holds what was asked for and no secret.
///
/// # Errors
/// Where the pool says something else, or the bundle tells a token.
pub(crate) fn ailing() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, "ailing-test", &[], "minimal.yaml")?;
    test.kube.apply(test.namespace, NO_IMAGE)?;
    let reason = "jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}=ImageNotPulled";
    test.kube.wait(test.namespace, "pool/no-image", reason, 180)?;
    let grid = test.names("grid")?;
    let grid = grid.first().context("the example has no grid")?.rsplit('/').next().unwrap_or_default();
    let secret = test.kube.get(test.namespace, &format!("secret/{grid}-credentials"))?;
    let token = secret["data"]["worker-token"].as_str().context("no worker-token")?;
    let words = ["exec", "--namespace", "grid-system", "deploy/grid-operator", "--", "/grid-operator"];
    let bundle = process::output(test.kube.kubectl(words).arg("--support-bundle"))?;
    for part in ["no-such-toolchain", "ImageNotPulled", "kind: PodLog", test.namespace] {
        anyhow::ensure!(bundle.contains(part), "the bundle has no {part}");
    }
    anyhow::ensure!(!bundle.contains(token), "the bundle tells the worker token");
    test.delete()
}
