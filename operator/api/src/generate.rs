//! The CustomResourceDefinitions as YAML, for `crds/` and for the chart.

use kube::CustomResourceExt;

use crate::{BuildGrid, CasStorage, WorkerPool};

/// File names and contents of the generated CRDs.
///
/// # Errors
/// Never for the types of this crate; the error is serde's.
pub fn crds() -> Result<Vec<(String, String)>, serde_yaml::Error> {
    [BuildGrid::crd(), CasStorage::crd(), WorkerPool::crd()]
        .into_iter()
        .map(|crd| {
            let name = format!("grid.build_{}.yaml", crd.spec.names.plural);
            let yaml = serde_yaml::to_string(&crd)?;
            Ok((
                name,
                format!(
                    "# Generated from operator/api by `cargo xtask codegen`. Not edited by hand.\n{yaml}"
                ),
            ))
        })
        .collect()
}
