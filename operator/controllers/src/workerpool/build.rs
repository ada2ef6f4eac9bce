//! The objects of a pool: a Deployment of pods in which grid-worker fetches and uploads, and grid-runner runs the
//! actions in the user's image.
//!
//! Two containers, two users, one volume: the worker has all of it and the credentials, the runner only the folders
//! of the actions and of its socket. The runner's program comes out of the worker's image by an init container.

use grid_operator_apply::{Desired, Kind};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::validate::Pool;
use crate::error::Result;
use crate::names::Names;
use crate::workload::overlay;

mod pod;

/// The component of a pool's pods.
pub(crate) const WORKER: &str = "worker";

/// Every object of a pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    service_account: ServiceAccount,
    deployment: Deployment,
}

impl Objects {
    /// In the order of their application; one that is forgotten doesn't compile.
    pub(crate) fn into_desired(self, pool: &Pool<'_>) -> Result<Vec<Desired>> {
        let Self { service_account, deployment } = self;
        let value = overlay(serde_json::to_value(deployment)?, pool.spec.pod_template.as_ref());
        Ok(vec![Desired::new(&service_account)?, Desired::from_value(Kind::of::<Deployment>(), value)?])
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
        deployment: Deployment {
            metadata: pool.owner.meta(names.component(WORKER), WORKER),
            spec: Some(DeploymentSpec {
                replicas: pool.spec.replicas,
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
