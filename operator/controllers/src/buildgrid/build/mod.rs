//! The objects of a grid, computed from a valid wish: no request, no clock, no failure.
//!
//! - `config`: each server's YAML;
//! - `server`: its workload, Services and budget;
//! - `front`: the ingress and the Secrets of its TLS; `gateway`: other projects' kinds for the same;
//! - `network`: who may reach the servers; `insight`: what watches them;
//! - `clients`: ready-made configuration for clients;
//! - `migration`: the Job that brings the database up to date.

mod clients;
mod config;
mod front;
mod gateway;
mod insight;
mod migration;
mod network;
mod results;
mod server;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use grid_operator_apply::Kind;

use super::roles::Role;
use super::tls::Secrets;
use super::validate::Grid;
use crate::foreign::Foreign;

pub(crate) use front::address;

/// Every object of a grid.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    pub(crate) service_account: ServiceAccount,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) config_maps: Vec<ConfigMap>,
    pub(crate) services: Vec<Service>,
    pub(crate) ingress: Option<Ingress>,
    pub(crate) network_policies: Vec<NetworkPolicy>,
    pub(crate) foreign: Vec<Foreign>,
    pub(crate) migration: Option<Job>,
    pub(crate) deployments: Vec<Deployment>,
    pub(crate) stateful_sets: Vec<StatefulSet>,
    pub(crate) budgets: Vec<PodDisruptionBudget>,
}

/// Builds them, but for those of kinds that the cluster doesn't have.
pub(crate) fn build(grid: &Grid<'_>, secrets: &Secrets, missing: &[Kind]) -> Objects {
    let components = Role::of(grid.spec.topology).iter().map(|role| role.component());
    let parts = grid.mutual_tls.iter().flat_map(|m| m.certificates(&grid.owner, components.clone()));
    let foreign = [gateway::route(grid), gateway::certificate(grid)].into_iter().flatten().chain(parts);
    let mut objects = Objects {
        service_account: server::service_account(grid),
        secrets: front::secrets(grid, secrets),
        config_maps: vec![clients::config_map(grid, secrets)],
        ingress: front::ingress(grid),
        network_policies: network::policies(grid),
        foreign: foreign
            .chain(insight::foreign(grid))
            .filter(|object| !missing.contains(&object.kind))
            .collect(),
        migration: migration::job(grid),
        ..Objects::default()
    };
    objects.config_maps.extend(insight::dashboard(grid));
    for role in Role::of(grid.spec.topology) {
        server::add(grid, *role, &mut objects);
    }
    objects
}
