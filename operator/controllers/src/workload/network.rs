//! NetworkPolicies and their parts.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

/// Labels of the operator's own pods, as its chart sets them.
const OPERATOR: (&str, &str) = ("app.kubernetes.io/name", "grid-operator");
const DNS_PORT: i32 = 53;

/// A policy for some pods; without `egress` they may reach everything.
pub(crate) fn policy(
    metadata: ObjectMeta,
    pods: LabelSelector,
    ingress: Vec<NetworkPolicyIngressRule>,
    egress: Option<Vec<NetworkPolicyEgressRule>>,
) -> NetworkPolicy {
    let mut types = vec!["Ingress".to_owned()];
    types.extend(egress.is_some().then(|| "Egress".to_owned()));
    NetworkPolicy {
        metadata,
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pods),
            ingress: Some(ingress),
            egress,
            policy_types: Some(types),
        }),
    }
}

/// Callers of a port; all where none are named.
pub(crate) fn inbound(port: i32, from: Option<Vec<NetworkPolicyPeer>>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule { from, ports: Some(vec![tcp(port)]) }
}

/// A port of some peers.
pub(crate) fn outbound(port: i32, to: NetworkPolicyPeer) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule { to: Some(vec![to]), ports: Some(vec![tcp(port)]) }
}

/// The cluster's DNS, which may be on the nodes' own addresses.
pub(crate) fn to_dns() -> NetworkPolicyEgressRule {
    let udp = NetworkPolicyPort { protocol: Some("UDP".into()), ..tcp(DNS_PORT) };
    NetworkPolicyEgressRule { to: None, ports: Some(vec![udp, tcp(DNS_PORT)]) }
}

fn tcp(port: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(port)),
        protocol: Some("TCP".into()),
        ..NetworkPolicyPort::default()
    }
}

/// Pods of any namespace.
pub(crate) fn pods_anywhere(pods: LabelSelector) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        pod_selector: Some(pods),
        ip_block: None,
    }
}

/// Every pod of the cluster.
pub(crate) fn anywhere_in_cluster() -> NetworkPolicyPeer {
    NetworkPolicyPeer { namespace_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() }
}

/// The operator, which asks Fleet.
pub(crate) fn operators() -> NetworkPolicyPeer {
    let (label, value) = OPERATOR;
    pods_anywhere(LabelSelector {
        match_labels: Some([(label.to_owned(), value.to_owned())].into()),
        ..LabelSelector::default()
    })
}
