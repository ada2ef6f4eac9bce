//! Manifests that are wrong, on the real API server.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{environment, grid, process};

/// Each manifest of `e2e/bad` is refused, or ends in the condition that its golden file says; and what the operator
/// makes is admitted under the restricted Pod Security Standard. The tests are those of the controllers' crate.
///
/// # Errors
/// Where one is not.
pub(crate) fn manifests() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let variables = cluster.variables()?;
    let config = variables.get("KUBECONFIG").context("gridcluster env: no KUBECONFIG")?;
    let mut tests = Command::new("cargo");
    tests.args(["test", "--locked", "--quiet", "-p", "grid-operator-controllers", "--test", "it"]);
    process::run(tests.current_dir(environment::root()).env("GRID_CLUSTER", "1").env("KUBECONFIG", config))
}
