//! A server of a grid: ConfigMap, workload, Services, budget.

use std::collections::{BTreeMap, BTreeSet};

use grid_operator_api::{EmbeddedStorage, ServiceSpec};
use grid_operator_apply::content_hash;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment, StatefulSet, StatefulSetSpec,
};
use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec, ServiceAccount};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::super::authorization::ACL_FILE;
use super::super::roles::Role;
use super::super::validate::{Grid, Storage};
use super::Objects;
use super::config::config;
use crate::workload::{
    MIN_READY_SECONDS, ServerPod, claim_template, cluster_service, disruption_budget, pods_service, retention,
};

/// The account of the grid's pods: it may do nothing, and its token is mounted nowhere.
pub(super) fn service_account(grid: &Grid<'_>) -> ServiceAccount {
    ServiceAccount {
        metadata: grid.owner.meta(grid.names().service_account(), "grid"),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// Adds the objects of one role.
pub(super) fn add(grid: &Grid<'_>, role: Role, objects: &mut Objects) {
    let component = role.component();
    let service = role.service(grid.spec);
    let config = config(grid, role);
    let config_map = config_map(grid, component, config.yaml);
    let replicas = if grid.sleep.has_begun { 0 } else { service.replicas };
    let name = config_map.metadata.name.clone().unwrap_or_default();
    let template = template(grid, role, &service, name, &config.secrets);
    objects.config_maps.push(config_map);
    objects.services.push(cluster_service(&grid.owner, component, grid.ports(role)));
    objects.services.push(pods_service(&grid.owner, component, grid.ports(role)));
    if grid.volume_role() == Some(role) {
        objects.stateful_sets.push(stateful_set(grid, component, template));
    } else {
        objects.deployments.push(deployment(grid, component, replicas, template));
        objects.budgets.extend(disruption_budget(&grid.owner, component, replicas));
    }
}

/// The configuration under a name made of its content: a pod keeps the one that it was started with.
fn config_map(grid: &Grid<'_>, component: &str, yaml: String) -> ConfigMap {
    let mut data = BTreeMap::from([("server.yml".to_owned(), yaml)]);
    let acl = grid.authorization.as_ref().and_then(|authorization| authorization.acl.clone());
    data.extend(acl.map(|acl| (ACL_FILE.to_owned(), acl)));
    let name = grid.names().config(component, &content_hash(&json!(data)));
    ConfigMap {
        metadata: grid.owner.meta(name, component),
        data: Some(data),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

fn template(
    grid: &Grid<'_>,
    role: Role,
    service: &ServiceSpec,
    config: String,
    secrets: &BTreeSet<(String, String)>,
) -> PodTemplateSpec {
    ServerPod {
        owner: &grid.owner,
        component: role.component(),
        image: grid.image.clone(),
        version: &grid.version,
        revision: &grid.revision,
        config,
        ports: grid.ports(role),
        credentials: grid.asks_for_tokens(role).then(|| grid.names().credentials()),
        secrets,
        database_authority: grid.database.as_ref().and_then(|database| database.authority.as_ref()),
        secrets_hash: grid.secrets_hash.as_deref(),
        has_claim: grid.volume_role() == Some(role),
        resources: service.resources.as_ref(),
    }
    .template()
}

fn deployment(grid: &Grid<'_>, component: &str, replicas: i32, template: PodTemplateSpec) -> Deployment {
    Deployment {
        metadata: grid.owner.meta(grid.names().component(component), component),
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            selector: grid.owner.selector(component),
            revision_history_limit: Some(2),
            min_ready_seconds: Some(MIN_READY_SECONDS),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn stateful_set(grid: &Grid<'_>, component: &str, template: PodTemplateSpec) -> StatefulSet {
    let embedded = match &grid.storage {
        Storage::Embedded(embedded) => embedded.clone(),
        // SQLite alone needs a volume too.
        Storage::Shared(_) => {
            EmbeddedStorage { volume: grid.queue_volume.clone(), ..EmbeddedStorage::default() }
        }
    };
    StatefulSet {
        metadata: grid.owner.meta(grid.names().component(component), component),
        spec: Some(StatefulSetSpec {
            replicas: Some(i32::from(!grid.sleep.has_begun)),
            service_name: Some(grid.names().pods(component)),
            pod_management_policy: Some("Parallel".into()),
            selector: grid.owner.selector(component),
            template,
            volume_claim_templates: Some(vec![claim_template(&grid.owner, component, &embedded.volume)]),
            persistent_volume_claim_retention_policy: Some(retention(embedded.deletion_policy)),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}
