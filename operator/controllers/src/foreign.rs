//! Objects of kinds that other projects define, and that a cluster may lack. They have no generated types: their few
//! fields are written as JSON where they are built.

use grid_operator_apply::{Desired, Kind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::error::Result;

/// PodMonitor of the Prometheus operator.
pub(crate) const POD_MONITOR: Kind =
    Kind { group: "monitoring.coreos.com", version: "v1", kind: "PodMonitor", plural: "podmonitors" };
/// PrometheusRule of the Prometheus operator.
pub(crate) const PROMETHEUS_RULE: Kind =
    Kind { group: "monitoring.coreos.com", version: "v1", kind: "PrometheusRule", plural: "prometheusrules" };
/// Certificate of cert-manager.
pub(crate) const CERTIFICATE: Kind =
    Kind { group: "cert-manager.io", version: "v1", kind: "Certificate", plural: "certificates" };
/// GRPCRoute of the Gateway API.
pub(crate) const GRPC_ROUTE: Kind =
    Kind { group: "gateway.networking.k8s.io", version: "v1", kind: "GRPCRoute", plural: "grpcroutes" };
/// All of them.
pub(crate) const KINDS: [Kind; 4] = [POD_MONITOR, PROMETHEUS_RULE, CERTIFICATE, GRPC_ROUTE];

/// An object of another project's kind.
#[derive(Clone, Debug)]
pub(crate) struct Foreign {
    pub(crate) kind: Kind,
    value: Value,
}

impl Foreign {
    /// An object with that metadata and spec.
    pub(crate) fn new(kind: Kind, metadata: &ObjectMeta, spec: &Value) -> Self {
        let api_version = format!("{}/{}", kind.group, kind.version);
        let value = json!({"apiVersion": api_version, "kind": kind.kind, "metadata": metadata, "spec": spec});
        Self { kind, value }
    }

    pub(crate) fn desired(&self) -> Result<Desired> {
        Ok(Desired::from_value(self.kind, self.value.clone())?)
    }
}
