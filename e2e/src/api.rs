//! The test cluster's API server as a client in this process, for what kubectl is too slow or too simple for.

use anyhow::{Context, Result};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::gridcluster::Cluster;

/// A client of the running cluster, with all rights.
///
/// # Errors
/// Where no cluster runs.
pub(crate) async fn client(cluster: &Cluster) -> Result<Client> {
    // Another part of the process may have installed it before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let variables = cluster.variables()?;
    let path = variables.get("KUBECONFIG").context("gridcluster env: no KUBECONFIG")?;
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?;
    Ok(Client::try_from(config)?)
}
