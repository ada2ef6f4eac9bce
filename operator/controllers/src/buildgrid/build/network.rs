//! Who may reach the grid's servers over the network: for each kind of server a NetworkPolicy, and one for the database.
//!
//! Clients reach what the ways in lead to, workers everything; only the grid's own parts reach Bots, unless a way in leads there
//! too. That Bots and Fleet ask for tokens is what protects them where policies aren't enforced.

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer};

use super::super::roles::{Role, exposes_bots};
use super::super::validate::Grid;
use crate::names::{GRPC_PORT, MUTUAL_TLS_PORT, SERVER_ADMIN_PORT, pods_of};
use crate::workload::{Ports, anywhere_in_cluster, inbound, operators, pods_anywhere, policy};

/// Port of PostgreSQL.
const DATABASE_PORT: i32 = 5432;

/// The policies of a grid.
pub(super) fn policies(grid: &Grid<'_>) -> Vec<NetworkPolicy> {
    let wish = &grid.spec.network_policy;
    if !wish.enabled {
        return vec![];
    }
    let mut policies: Vec<NetworkPolicy> =
        Role::of(grid.spec.topology).iter().map(|role| server(grid, *role)).collect();
    policies.extend(wish.database_pods.clone().map(|pods| {
        let users = NetworkPolicyPeer {
            pod_selector: Some(pods_of(&["BuildGrid", "CasStorage"])),
            ..NetworkPolicyPeer::default()
        };
        let meta = grid.owner.meta(grid.names().component("database"), "database");
        policy(meta, pods, vec![inbound(DATABASE_PORT, Some(vec![users]))], None)
    }));
    policies
}

fn server(grid: &Grid<'_>, role: Role) -> NetworkPolicy {
    let component = role.component();
    let parts = vec![pods_anywhere(pods_of(&["BuildGrid", "WorkerPool"])), operators()];
    let clients = &grid.spec.network_policy.clients;
    let mut rules = match grid.ports(role) {
        Ports::Plain => {
            let callers = match clients {
                _ if role == Role::Bots && !exposes_bots(grid.spec) => Some(parts),
                Some(clients) => Some(parts.into_iter().chain(clients.iter().cloned()).collect()),
                None => None,
            };
            vec![inbound(GRPC_PORT, callers)]
        }
        Ports::Mutual => vec![inbound(MUTUAL_TLS_PORT, Some(parts))],
        Ports::Both => vec![inbound(MUTUAL_TLS_PORT, Some(parts)), inbound(GRPC_PORT, clients.clone())],
    };
    rules.push(inbound(SERVER_ADMIN_PORT, Some(vec![anywhere_in_cluster()])));
    let meta = grid.owner.meta(grid.names().component(component), component);
    policy(meta, grid.owner.selector(component), rules, None)
}
