//! Which server serves which gRPC service, and where.

use grid_operator_api::{BuildGridSpec, ServiceSpec, Topology};

use crate::names::{Names, Wire};

/// The service that workers call.
const BOTS: &str = "google.devtools.remoteworkers.v1test2.Bots";

/// A kind of server of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Every service.
    Server,
    /// Execution, Operations, Introspection, Quota, Capabilities, Build Events.
    Execution,
    /// Bots.
    Bots,
    /// CAS, ByteStream, LogStream.
    Cas,
    /// ActionCache.
    ActionCache,
}

impl Role {
    /// The roles of a topology.
    pub(crate) fn of(topology: Topology) -> &'static [Self] {
        match topology {
            Topology::Combined => &[Self::Server],
            Topology::Split => &[Self::Execution, Self::Bots, Self::Cas, Self::ActionCache],
        }
    }

    /// Its part of names and labels.
    pub(crate) fn component(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Execution => "execution",
            Self::Bots => "bots",
            Self::Cas => "cas",
            Self::ActionCache => "action-cache",
        }
    }

    pub(crate) fn has_execution(self) -> bool {
        matches!(self, Self::Server | Self::Execution)
    }

    pub(crate) fn has_bots(self) -> bool {
        matches!(self, Self::Server | Self::Bots)
    }

    pub(crate) fn has_cas(self) -> bool {
        matches!(self, Self::Server | Self::Cas)
    }

    pub(crate) fn has_action_cache(self) -> bool {
        matches!(self, Self::Server | Self::ActionCache)
    }

    /// What the spec says of it.
    pub(crate) fn service(self, spec: &BuildGridSpec) -> ServiceSpec {
        let services = spec.services.as_ref();
        let service = services.and_then(|s| match self {
            Self::Server => s.server.as_ref(),
            Self::Execution => s.execution.as_ref(),
            Self::Bots => s.bots.as_ref(),
            Self::Cas => s.cas.as_ref(),
            Self::ActionCache => s.action_cache.as_ref(),
        });
        service.cloned().unwrap_or_default()
    }
}

/// The role among `roles` that a predicate picks; the first where none does.
pub(crate) fn serving(topology: Topology, serves: fn(Role) -> bool) -> Role {
    let roles = Role::of(topology);
    roles.iter().copied().find(|role| serves(*role)).unwrap_or(roles[0])
}

/// Where the workers of a grid connect to.
pub(crate) fn bots_url(grid: &str, namespace: &str, spec: &BuildGridSpec) -> String {
    Names(grid).pods_url(
        serving(spec.topology, Role::has_bots).component(),
        namespace,
        Wire::of(spec.mutual_tls.as_ref()),
    )
}

/// Where the operator asks the scheduler of a grid.
pub(crate) fn fleet_url(grid: &str, namespace: &str, spec: &BuildGridSpec) -> String {
    Names(grid).component_url(
        serving(spec.topology, Role::has_execution).component(),
        namespace,
        Wire::of(spec.mutual_tls.as_ref()),
    )
}

/// Where the workers of a grid fetch and store blobs.
pub(crate) fn cas_url(grid: &str, namespace: &str, spec: &BuildGridSpec) -> String {
    Names(grid).pods_url(
        serving(spec.topology, Role::has_cas).component(),
        namespace,
        Wire::of(spec.mutual_tls.as_ref()),
    )
}

/// Whether workers elsewhere are led to Bots, where each call shows the worker token.
pub(crate) fn exposes_bots(spec: &BuildGridSpec) -> bool {
    spec.ingress.as_ref().is_some_and(|ingress| ingress.bots)
        || spec.gateway.as_ref().is_some_and(|gateway| gateway.bots)
}

/// The gRPC services that the way in leads to, with who serves them. Bots is among them where that is asked for.
pub(crate) fn routes(spec: &BuildGridSpec) -> Vec<(&'static str, Role)> {
    let (topology, executes) = (spec.topology, spec.execution.enabled);
    let front = serving(topology, Role::has_execution);
    let cas = serving(topology, Role::has_cas);
    let action_cache = serving(topology, Role::has_action_cache);
    let mut routes = vec![
        ("build.bazel.remote.execution.v2.ActionCache", action_cache),
        ("build.bazel.remote.execution.v2.Capabilities", front),
        ("build.bazel.remote.execution.v2.ContentAddressableStorage", cas),
        ("google.bytestream.ByteStream", cas),
        ("build.bazel.remote.asset.v1.Fetch", cas),
        ("build.bazel.remote.asset.v1.Push", cas),
        ("build.bazel.remote.logstream.v1.LogStreamService", cas),
        ("google.devtools.build.v1.PublishBuildEvent", front),
        ("build.buildgrid.QueryBuildEvents", front),
        ("grpc.health.v1.Health", front),
        ("grpc.reflection.v1.ServerReflection", front),
        ("grpc.reflection.v1alpha.ServerReflection", front),
    ];
    if executes {
        routes.push(("build.bazel.remote.execution.v2.Execution", front));
        routes.push(("google.longrunning.Operations", front));
        routes.push(("build.buildgrid.Introspection", front));
        // Asks for the token of administrators.
        routes.push(("build.buildgrid.Quota", front));
    }
    if exposes_bots(spec) {
        routes.push((BOTS, serving(topology, Role::has_bots)));
    }
    routes.sort_by_key(|(service, _)| *service);
    routes
}

/// The services that other servers have than the one that answers for the grid's health, by server.
pub(crate) fn beside_front(spec: &BuildGridSpec) -> Vec<(Role, Vec<&'static str>)> {
    let front = serving(spec.topology, Role::has_execution);
    let mut services = routes(spec);
    if spec.execution.enabled && !exposes_bots(spec) {
        services.push((BOTS, serving(spec.topology, Role::has_bots)));
    }
    let of = |role: &Role| services.iter().filter(|(_, by)| by == role).map(|(name, _)| *name).collect();
    let others = Role::of(spec.topology).iter().filter(|role| **role != front);
    others.map(|role| (*role, of(role))).collect()
}

#[cfg(test)]
mod tests {
    use grid_operator_api::IngressSpec;

    use super::*;

    fn grid(topology: Topology, bots: bool) -> BuildGridSpec {
        let ingress = IngressSpec { host: "grid.example.org".to_owned(), bots, ..IngressSpec::default() };
        BuildGridSpec { topology, ingress: Some(ingress), ..BuildGridSpec::default() }
    }

    #[test]
    fn no_route_leads_to_fleet_and_to_bots_only_where_that_is_asked_for() {
        for topology in [Topology::Combined, Topology::Split] {
            for asked in [false, true] {
                let routes = routes(&grid(topology, asked));
                assert!(!routes.iter().any(|(service, _)| service.contains("fleet")), "{routes:?}");
                let bots = routes.iter().find(|(service, _)| service.contains("Bots")).map(|(_, role)| *role);
                assert_eq!(bots, asked.then(|| serving(topology, Role::has_bots)));
                assert!(routes.iter().all(|(service, role)| *role != Role::Bots || *service == BOTS));
            }
        }
    }
}
