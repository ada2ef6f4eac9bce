//! The operator of the test cluster: who leads, and what happens to it.

use anyhow::{Context, Result};

use crate::kube::Kube;
use crate::{grid, pods, wait};

/// Where the chart is installed.
pub(crate) const NAMESPACE: &str = "grid-system";
/// The labels of its pods.
pub(crate) const PODS: &str = "app.kubernetes.io/name=grid-operator";

/// Upgrades the installation to this many replicas, by pods that are new in any case.
///
/// # Errors
/// Where helm fails.
pub(crate) fn replicas(kube: &Kube<'_>, count: u32) -> Result<()> {
    let replicas = format!("replicas={count}");
    let other = format!("podAnnotations.replicas=r{count}");
    grid::install_with(kube, &["image.registry=localhost", &replicas, &other])
}

/// The pod that holds the Lease, as the Lease says.
///
/// # Errors
/// Where there is none.
pub(crate) fn leader(kube: &Kube<'_>) -> Result<String> {
    let lease = kube.get(NAMESPACE, "lease/grid-operator")?;
    Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
}

/// Waits until one of the pods that there are now leads, other than `but`, and gives its name.
///
/// # Errors
/// Where that takes more than a minute.
pub(crate) fn other_leader(kube: &Kube<'_>, but: &str) -> Result<String> {
    let mut found = String::new();
    wait::until("another leader", 60, || {
        found = leader(kube)?;
        Ok(found != but && pods::names(kube, NAMESPACE, PODS)?.contains(&found))
    })?;
    Ok(found)
}

/// Kills the leader, and gives who leads then.
///
/// # Errors
/// Where nobody does within a minute.
pub(crate) fn kill_leader(kube: &Kube<'_>) -> Result<String> {
    let leader = leader(kube)?;
    let words = ["delete", "pod", &leader, "--namespace", NAMESPACE, "--grace-period=0", "--force"];
    crate::process::run(&mut kube.kubectl(words)).with_context(|| format!("the leader {leader}"))?;
    other_leader(kube, &leader)
}
