//! Who may reach the pods of a grid or a tier over the network.

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// NetworkPolicies of a grid. They need a network plug-in that enforces them.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.enabled || !(has(self.clients) || has(self.databasePods))", "networkPolicy is off: clients and databasePods would do nothing")
)]
pub struct NetworkPolicySpec {
    /// Make them.
    #[serde(default = "NetworkPolicySpec::default_enabled")]
    pub enabled: bool,
    /// Who may reach the services that clients use, besides the grid's own parts: the ingress controller's namespace,
    /// say. Everyone where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub clients: Option<Vec<NetworkPolicyPeer>>,
    /// Pods of the database in this namespace: only servers of grids and tiers, migrations and expiry may reach them,
    /// on the port of PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_pods: Option<LabelSelector>,
}

impl NetworkPolicySpec {
    fn default_enabled() -> bool {
        true
    }
}

impl Default for NetworkPolicySpec {
    fn default() -> Self {
        Self { enabled: true, clients: None, database_pods: None }
    }
}

/// What the pods of a pool, and so its actions in isolation `plain`, may reach.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PoolEgress {
    /// The grid's servers and the cluster's DNS.
    #[default]
    Grid,
    /// Everything.
    Open,
}
