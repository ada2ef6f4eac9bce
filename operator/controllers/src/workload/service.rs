//! The two Services of a component, and its disruption budget.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Ports;
use crate::names::{GRPC_PORT, Names, Owner};

/// How ingress controllers that don't read `appProtocol` are told of HTTP/2 without TLS.
const H2C_ANNOTATIONS: [(&str, &str); 2] = [
    ("traefik.ingress.kubernetes.io/service.serversscheme", "h2c"),
    ("projectcontour.io/upstream-protocol.h2c", "grpc"),
];

/// The Service for clients and the ingress: one address, HTTP/2 without TLS behind it.
pub(crate) fn cluster_service(owner: &Owner, component: &str, ports: Ports) -> Service {
    let mut service = service(owner, component, Names(&owner.name).component(component), None, ports);
    service.metadata.annotations =
        Some(H2C_ANNOTATIONS.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
    service
}

/// The Service that resolves to every pod: a gRPC connection stays with one pod, so who wants to use all of them
/// has to see all of them.
pub(crate) fn pods_service(owner: &Owner, component: &str, ports: Ports) -> Service {
    service(owner, component, Names(&owner.name).pods(component), Some("None".to_owned()), ports)
}

fn service(
    owner: &Owner,
    component: &str,
    name: String,
    cluster_ip: Option<String>,
    ports: Ports,
) -> Service {
    Service {
        metadata: owner.meta(name, component),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            cluster_ip,
            selector: Some(owner.selector_labels(component)),
            ports: Some(ports.named().into_iter().map(|(name, number)| port(name, number)).collect()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: number,
        protocol: Some("TCP".into()),
        target_port: Some(IntOrString::String(name.into())),
        app_protocol: (number == GRPC_PORT).then(|| "kubernetes.io/h2c".into()),
        ..ServicePort::default()
    }
}

/// At most one pod of a component leaves at a time of those that can be asked; none where there is only one, for
/// that would block the drain of its node. Pods that take no calls anyway leave at any time: else a database that is away
/// would block the drains of all.
pub(crate) fn disruption_budget(
    owner: &Owner,
    component: &str,
    replicas: i32,
) -> Option<PodDisruptionBudget> {
    (replicas > 1).then(|| PodDisruptionBudget {
        metadata: owner.meta(Names(&owner.name).component(component), component),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(owner.selector(component)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}
