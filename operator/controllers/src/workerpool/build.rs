//! The objects of a pool: a Deployment of pods in which grid-worker fetches and uploads, and grid-runner runs the
//! actions in the user's image.
//!
//! Two containers, two users, one volume: the worker has all of it and the credentials, the runner only the folders
//! of the actions and of its socket. The runner's program comes out of the worker's image by an init container.
//! Pools of BuildBox have containers of their own: `buildbox`.

use grid_operator_apply::{Desired, Kind};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use grid_operator_api::PoolEgress;

use super::validate::Pool;
use crate::error::Result;
use crate::names::{Names, WORKER_ADMIN_PORT, servers_of};
use crate::workload::revision::Draft;
use crate::workload::{anywhere_in_cluster, inbound, outbound, overlay, policy, to_dns};

mod buildbox;
mod isolation;
mod pod;

/// The component of a pool's pods.
pub(crate) const WORKER: &str = "worker";

/// Every object of a pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    service_account: ServiceAccount,
    network_policy: Option<NetworkPolicy>,
    deployment: Deployment,
}

impl Objects {
    /// In the order of their application; one that is forgotten doesn't compile.
    pub(crate) fn into_phases(self, pool: &Pool<'_>) -> Result<(Vec<Desired>, Draft)> {
        let Self { service_account, network_policy, deployment } = self;
        let mut wanted = vec![Desired::new(&service_account)?];
        if let Some(policy) = &network_policy {
            wanted.push(Desired::new(policy)?);
        }
        let value = overlay(serde_json::to_value(deployment)?, pool.spec.pod_template.as_ref());
        Ok((wanted, Draft { kind: Kind::of::<Deployment>(), value }))
    }
}

/// Builds them.
pub(crate) fn build(pool: &Pool<'_>) -> Objects {
    let names = Names(&pool.owner.name);
    Objects {
        service_account: ServiceAccount {
            metadata: pool.owner.meta(names.component(WORKER), WORKER),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        },
        network_policy: pool.guarded.then(|| network_policy(pool)),
        deployment: Deployment {
            metadata: pool.owner.meta(names.component(WORKER), WORKER),
            spec: Some(DeploymentSpec {
                replicas: pool.replicas,
                selector: pool.owner.selector(WORKER),
                revision_history_limit: Some(2),
                strategy: Some(DeploymentStrategy {
                    type_: Some("RollingUpdate".into()),
                    rolling_update: Some(RollingUpdateDeployment {
                        max_surge: Some(IntOrString::String("25%".into())),
                        max_unavailable: Some(IntOrString::Int(0)),
                    }),
                }),
                template: pod::template(pool),
                ..DeploymentSpec::default()
            }),
            ..Deployment::default()
        },
    }
}

/// Nothing calls a worker but who fetches its metrics; it calls its grid, and names.
fn network_policy(pool: &Pool<'_>) -> NetworkPolicy {
    let metadata = pool.owner.meta(Names(&pool.owner.name).component(WORKER), WORKER);
    let metrics = inbound(WORKER_ADMIN_PORT, Some(vec![anywhere_in_cluster()]));
    let egress = match (&pool.spec.grid_ref.name, pool.spec.egress) {
        (Some(grid), PoolEgress::Grid) => {
            let servers =
                NetworkPolicyPeer { pod_selector: Some(servers_of(grid)), ..NetworkPolicyPeer::default() };
            Some(vec![outbound(pool.wire.port(), servers), to_dns()])
        }
        // A grid elsewhere may be at any address.
        (None, _) | (_, PoolEgress::Open) => None,
    };
    policy(metadata, pool.owner.selector(WORKER), vec![metrics], egress)
}
