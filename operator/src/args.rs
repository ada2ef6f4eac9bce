//! The command line. Every option can also be given as an environment variable, as the chart does.

use std::net::SocketAddr;

use clap::Parser;

/// Runs build grids on Kubernetes.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Args {
    /// Registry and path of the grid's images, such as registry.example.org/grid.
    #[arg(long, env = "GRID_OPERATOR_IMAGE_REGISTRY", required_unless_present_any = ["check", "support_bundle"])]
    pub image_registry: Option<String>,
    /// Version of the grid's images where a resource names none.
    #[arg(long, env = "GRID_OPERATOR_IMAGE_VERSION", default_value = env!("CARGO_PKG_VERSION"))]
    pub image_version: String,
    /// Namespace to watch; all of them where it is not given.
    #[arg(long, env = "GRID_OPERATOR_WATCH_NAMESPACE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub watch_namespace: Option<String>,
    /// Address of metrics and probes.
    #[arg(long, env = "GRID_OPERATOR_ADMIN", default_value = "127.0.0.1:8982")]
    pub admin: SocketAddr,
    /// Address of the external scaler for KEDA, gRPC without TLS; none where it is not given.
    #[arg(long, env = "GRID_OPERATOR_SCALER")]
    pub scaler: Option<SocketAddr>,
    /// Resources whose pods are replaced at a time for nothing but a newer operator.
    #[arg(long, env = "GRID_OPERATOR_ROLLOUT_AT_ONCE", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub rollout_at_once: u16,
    /// Seconds between the end of one such move and the next.
    #[arg(long, env = "GRID_OPERATOR_ROLLOUT_PAUSE", default_value_t = 60)]
    pub rollout_pause: u64,
    /// Elect a leader among several replicas; without it this process writes at once.
    #[arg(long, env = "GRID_OPERATOR_LEADER_ELECT", requires_all = ["pod_name", "pod_namespace"])]
    pub leader_elect: bool,
    /// Name of the operator's pod.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,
    /// Namespace of the operator's pod, in which its Lease is.
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: Option<String>,
    /// Only check that the three resources are there and may be read, and end.
    #[arg(long)]
    pub check: bool,
    /// Only write everything that is known of the resources to standard output, as YAML without secrets, and end.
    #[arg(long)]
    pub support_bundle: bool,
    /// What is logged, as for RUST_LOG.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    pub log: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What runs by `kubectl exec` has none of the container's arguments.
    #[test]
    fn only_an_operator_needs_a_registry() {
        assert!(Args::try_parse_from(["grid-operator", "--support-bundle"]).is_ok());
        assert!(Args::try_parse_from(["grid-operator"]).is_err());
    }
}
