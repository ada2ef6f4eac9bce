//! The way in: the ingress with a path for each gRPC service, and the Secrets of the grid.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, IngressTLS, ServiceBackendPort,
};

use super::super::roles::{Role, routes, serving};
use super::super::tls::Secrets;
use super::super::validate::{Grid, Tls};
use crate::mutual_tls;
use crate::names::GRPC_PORT;

const COMPONENT: &str = "front";
/// How ingress controllers that look at the Ingress are told of gRPC, of blobs of any size, and of streams that are
/// silent for as long as an action runs; the user's annotations come after these. Traefik's timeouts are of its
/// entry points, and set where it is installed.
const ANNOTATIONS: [(&str, &str); 7] = [
    ("nginx.ingress.kubernetes.io/backend-protocol", "GRPC"),
    ("nginx.ingress.kubernetes.io/proxy-body-size", "0"),
    ("nginx.ingress.kubernetes.io/proxy-read-timeout", "86400"),
    ("nginx.ingress.kubernetes.io/proxy-send-timeout", "86400"),
    ("haproxy.org/server-proto", "h2"),
    ("haproxy.org/timeout-server", "24h"),
    ("projectcontour.io/response-timeout", "infinity"),
];

/// Where clients reach the grid, as host and port, and whether with TLS.
pub(crate) fn address(grid: &Grid<'_>) -> (String, bool) {
    match (&grid.spec.ingress, &grid.spec.gateway) {
        (Some(ingress), _) => {
            let tls = !matches!(grid.tls, Some(Tls::Disabled));
            let port = ingress.port.unwrap_or(if tls { 443 } else { 80 });
            (format!("{}:{port}", ingress.host), tls)
        }
        (None, Some(gateway)) => (format!("{}:{}", gateway.host, gateway.port), gateway.tls),
        (None, None) => {
            let front = serving(grid.spec.topology, Role::has_execution).component();
            (format!("{}.{}.svc:{GRPC_PORT}", grid.names().component(front), grid.owner.namespace), false)
        }
    }
}

/// The ingress, if the grid has one.
pub(super) fn ingress(grid: &Grid<'_>) -> Option<Ingress> {
    let spec = grid.spec.ingress.as_ref()?;
    let own = routes(grid.spec).into_iter().map(|(service, role)| {
        path(service, None, grid.names().component(role.component()), named_port("grpc"))
    });
    let extra = spec.routes.iter().map(|route| {
        let port = ServiceBackendPort { name: None, number: Some(route.backend.port) };
        path(&route.service, route.method.as_deref(), route.backend.name.clone(), port)
    });
    let paths = extra.chain(own).collect();
    let secret = match &grid.tls {
        Some(Tls::Given { secret, .. }) => Some(secret.clone()),
        Some(Tls::SelfSigned { .. } | Tls::CertManager { .. }) => Some(grid.names().certificate()),
        Some(Tls::Disabled) | None => None,
    };
    let mut metadata = grid.owner.meta(grid.owner.name.clone(), COMPONENT);
    let mut annotations: BTreeMap<String, String> =
        ANNOTATIONS.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    annotations.extend(spec.annotations.clone().unwrap_or_default());
    metadata.annotations = Some(annotations);
    Some(Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: spec.class_name.clone(),
            rules: Some(vec![IngressRule {
                host: Some(spec.host.clone()),
                http: Some(HTTPIngressRuleValue { paths }),
            }]),
            tls: secret.map(|secret| {
                vec![IngressTLS { hosts: Some(vec![spec.host.clone()]), secret_name: Some(secret) }]
            }),
            ..IngressSpec::default()
        }),
        ..Ingress::default()
    })
}

fn named_port(name: &str) -> ServiceBackendPort {
    ServiceBackendPort { name: Some(name.to_owned()), number: None }
}

/// The path of a service, or of one of its methods alone.
fn path(service: &str, method: Option<&str>, name: String, port: ServiceBackendPort) -> HTTPIngressPath {
    let (path, path_type) = match method {
        Some(method) => (format!("/{service}/{method}"), "Exact"),
        None => (format!("/{service}"), "Prefix"),
    };
    HTTPIngressPath {
        path: Some(path),
        path_type: path_type.into(),
        backend: IngressBackend {
            service: Some(IngressServiceBackend { name, port: Some(port) }),
            resource: None,
        },
    }
}

/// The tokens of workers and operator, and the certificate with its CA where the operator makes them.
pub(super) fn secrets(grid: &Grid<'_>, secrets: &Secrets) -> Vec<Secret> {
    let names = grid.names();
    let mut objects = vec![];
    if grid.spec.execution.enabled {
        let data = secrets.tokens.data();
        let data: Vec<(&str, &String)> = data.iter().map(|(key, text)| (*key, text)).collect();
        let mut tokens = secret(grid, names.credentials(), "Opaque", &data);
        tokens.metadata.annotations = secrets.tokens.annotations();
        objects.push(tokens);
    }
    if let Some((authority, pair)) = &secrets.certificate {
        objects.push(secret(grid, names.authority(), "Opaque", &authority.data()));
        let mut served = secret(grid, names.certificate(), "kubernetes.io/tls", &pair.data());
        served.metadata.annotations = Some(pair.annotations());
        objects.push(served);
    }
    if let (Some(wish), Some(parts)) = (&grid.mutual_tls, &secrets.parts) {
        objects.extend(parts.secrets(&grid.owner, wish));
    }
    objects
}

fn secret(grid: &Grid<'_>, name: String, type_: &str, data: &[(&'static str, &String)]) -> Secret {
    mutual_tls::secret(&grid.owner, COMPONENT, name, type_, data)
}
