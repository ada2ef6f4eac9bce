//! On a cluster, from one manifest to a finished build through the TLS ingress.

use anyhow::Result;

use crate::bazel::Workspace;
use crate::kube::Kube;
use crate::project::COMPILE_ACTIONS;
use crate::{environment, grid, process, reference};

const NAMESPACE: &str = "ingress-test";
const HOST: &str = "grid.example.com";

/// Every action of a clean build runs on the pools, the outputs are a local build's and do what they should, and a
/// second clean build runs none.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn build() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let kube = Kube::Test(&cluster);
    kube.namespace(NAMESPACE)?;
    kube.apply(NAMESPACE, &grid::example("buildgrid.yaml", "localhost")?)?;
    kube.wait(NAMESPACE, "grid/demo", "condition=Ready", 180)?;
    kube.wait(NAMESPACE, "pool/gcc12", "condition=Ready", 180)?;
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let files = grid::client_files(&kube, NAMESPACE, "demo", dir.path())?;
    let mut workspace = Workspace::new(dir.path())?;
    let clients = grid::clients(&workspace, &cluster, &files, HOST, &grid::ingress_address(&cluster)?)?;
    let startup = [grid::bazelrc()];
    let flags = ["--remote_download_outputs=all".to_owned()];
    let first = workspace.build(&clients, &startup, &flags)?;
    println!("    clean build: {:?} in {:.1} s", first.processes, first.took.as_secs_f64());
    first.expect_remote(COMPILE_ACTIONS)?;
    workspace.run_outputs(&clients)?;
    reference::expect_same(&reference::hashes(&cluster)?, &reference::outputs(&workspace)?)?;
    workspace.clean()?;
    let second = workspace.build(&clients, &startup, &flags)?;
    println!("    second clean build: {:?} in {:.1} s", second.processes, second.took.as_secs_f64());
    second.expect_all_hits(COMPILE_ACTIONS)?;
    columns(&kube)?;
    delete(&kube)
}

/// `kubectl get` shows what a person wants to know at a glance.
fn columns(kube: &Kube<'_>) -> Result<()> {
    for (kind, wanted) in [
        ("grid", &["NAME", "READY", "ADDRESS", "VERSION", "AGE"][..]),
        ("cas", &["NAME", "READY", "AGE"][..]),
        ("pool", &["NAME", "GRID", "READY", "DESIRED", "WORKERS", "AGE"][..]),
    ] {
        let crd = match kind {
            "grid" => "buildgrids.grid.build",
            "cas" => "casstorages.grid.build",
            _ => "workerpools.grid.build",
        };
        let shown = if kind == "cas" {
            // There is none here, so its columns are read from the definition.
            let path = "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}";
            format!("name {}", process::output(&mut kube.kubectl(["get", "crd", crd, "-o", path]))?)
        } else {
            process::output(&mut kube.kubectl(["get", "--namespace", NAMESPACE, kind]))?
        };
        let header = shown.lines().next().unwrap_or_default().to_uppercase();
        let missing: Vec<_> = wanted.iter().filter(|w| !header.contains(**w)).collect();
        anyhow::ensure!(missing.is_empty(), "kubectl get {kind} shows no {missing:?}: {header}");
    }
    Ok(())
}

/// Deleting what was applied leaves nothing but volumes marked Retain.
fn delete(kube: &Kube<'_>) -> Result<()> {
    process::run(&mut kube.kubectl([
        "delete",
        "--namespace",
        NAMESPACE,
        "--wait",
        "--timeout=180s",
        "pool,grid",
        "--all",
    ]))?;
    let kinds = "pods,deployments,statefulsets,replicasets,services,ingresses,secrets,serviceaccounts,jobs,cronjobs,leases,roles,rolebindings,networkpolicies,poddisruptionbudgets,configmaps";
    kube.wait_gone(NAMESPACE, kinds, "app.kubernetes.io/managed-by=grid-operator", 180)?;
    process::run(&mut kube.kubectl(["delete", "namespace", NAMESPACE, "--wait", "--timeout=180s"]))
}
