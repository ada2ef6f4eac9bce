//! The way in by the Gateway API, and the certificate by cert-manager: objects of kinds that a cluster may lack.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::roles::routes;
use super::super::validate::{Grid, Tls};
use crate::foreign::{CERTIFICATE, Foreign, GRPC_ROUTE};
use crate::names::GRPC_PORT;

const COMPONENT: &str = "front";

/// The GRPCRoute, where the grid is reached by a Gateway: a rule for each server, with the services that it serves.
pub(super) fn route(grid: &Grid<'_>) -> Option<Foreign> {
    let gateway = grid.spec.gateway.as_ref()?;
    let mut matches: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (service, role) in routes(grid.spec) {
        let method = json!({"method": {"type": "Exact", "service": service}});
        matches.entry(role.component()).or_default().push(method);
    }
    let own = matches.into_iter().map(|(component, matches)| {
        let backend = json!({"name": grid.names().component(component), "port": GRPC_PORT});
        json!({"matches": matches, "backendRefs": [backend]})
    });
    let extra = gateway.routes.iter().map(|route| {
        let mut method = json!({"type": "Exact", "service": route.service});
        if let Some(name) = &route.method {
            method["method"] = json!(name);
        }
        json!({"matches": [{"method": method}], "backendRefs": [route.backend]})
    });
    let rules: Vec<Value> = extra.chain(own).collect();
    let spec = json!({"parentRefs": gateway.parent_refs, "hostnames": [gateway.host], "rules": rules});
    Some(Foreign::new(GRPC_ROUTE, &grid.owner.meta(grid.owner.name.clone(), COMPONENT), &spec))
}

/// The Certificate, where cert-manager makes it.
pub(super) fn certificate(grid: &Grid<'_>) -> Option<Foreign> {
    let (Some(Tls::CertManager { issuer, .. }), Some(ingress)) = (&grid.tls, &grid.spec.ingress) else {
        return None;
    };
    let spec = json!({
        "secretName": grid.names().certificate(),
        "dnsNames": [ingress.host],
        "usages": ["digital signature", "server auth"],
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "issuerRef": {"group": "cert-manager.io", "kind": issuer.kind.as_str(), "name": issuer.name},
    });
    Some(Foreign::new(CERTIFICATE, &grid.owner.meta(grid.owner.name.clone(), COMPONENT), &spec))
}
