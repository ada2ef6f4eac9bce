//! How far a workload is: what its controller says of its pods.

use grid_operator_apply::Observed;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};

/// The state of the Deployment or StatefulSet of a name; of both, while one takes the other's place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Pods that exist.
    pub(crate) replicas: i32,
    /// Pods that take calls.
    pub(crate) available: i32,
    /// All pods are of the newest template and available, and none is left over.
    pub(crate) settled: bool,
    /// The rollout is over, and yet pods are missing.
    pub(crate) short: bool,
    /// Pods that are to exist; nothing where there is no workload.
    pub(crate) wanted: Option<i32>,
    /// Why pods can't be made: a quota, Pod Security, an admission webhook.
    pub(crate) failure: Option<String>,
}

impl Progress {
    /// What is observed of it.
    pub(crate) fn of(observed: &Observed, name: &str) -> Self {
        let deployment = observed.typed::<Deployment>(name).map(|d| of_deployment(&d));
        let set = observed.typed::<StatefulSet>(name).map(|s| of_stateful_set(&s));
        match (deployment, set) {
            (Some(one), Some(other)) => Self {
                replicas: one.replicas + other.replicas,
                available: one.available + other.available,
                settled: one.settled && other.settled,
                short: one.short || other.short,
                wanted: one.wanted.max(other.wanted),
                failure: one.failure.or(other.failure),
            },
            (one, other) => one.or(other).unwrap_or_default(),
        }
    }
}

fn of_deployment(deployment: &Deployment) -> Progress {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let replicas = status.replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    let updated = status.updated_replicas.unwrap_or(0);
    let is_seen = status.observed_generation == deployment.metadata.generation;
    Progress {
        replicas,
        available,
        settled: is_seen && updated == wanted && available == wanted && replicas == wanted,
        short: is_seen && updated == wanted && replicas == wanted && available < wanted,
        wanted: Some(wanted),
        failure: status
            .conditions
            .into_iter()
            .flatten()
            .find(|c| c.type_ == "ReplicaFailure" && c.status == "True")
            .map(|c| c.message.unwrap_or_default()),
    }
}

fn of_stateful_set(set: &StatefulSet) -> Progress {
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = set.status.clone().unwrap_or_default();
    let available = status.ready_replicas.unwrap_or(0);
    let updated = status.updated_replicas.unwrap_or(0);
    let is_seen = status.observed_generation == set.metadata.generation;
    let is_updated = is_seen && updated == wanted && status.current_revision == status.update_revision;
    Progress {
        replicas: status.replicas,
        available,
        settled: is_updated && available == wanted,
        short: is_updated && available < wanted,
        wanted: Some(wanted),
        failure: None,
    }
}
