//! Pods, containers, Services and budgets as all three resources make them: under the restricted Pod Security
//! profile, without API tokens, with read-only roots.

pub(crate) mod ailing;
mod environment;
pub(crate) mod growth;
pub(crate) mod keeping;
mod network;
mod overlay;
mod pod;
mod ports;
mod progress;
pub(crate) mod revision;
mod service;
mod volume;

pub(crate) use environment::database_tls;
pub(crate) use network::{anywhere_in_cluster, inbound, operators, outbound, pods_anywhere, policy, to_dns};
pub(crate) use overlay::{at, overlay};
pub(crate) use pod::{
    CREDENTIALS_DIR, MIN_READY_SECONDS, SERVER_USER, ServerPod, container_security, http_probe, mount,
    pod_security, secret_volume, spread, tolerations,
};
pub(crate) use ports::{Ports, channels};
pub(crate) use progress::Progress;
pub(crate) use service::{cluster_service, disruption_budget, pods_service};
pub(crate) use volume::{check_unchanged, claim_template, claimed, retention};
