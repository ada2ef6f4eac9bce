//! Runs the controllers while this replica leads, and waits while another does.

use std::sync::Arc;
use std::time::Duration;

use grid_operator_apply::{Election, KubeLease, Leadership};
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::controllers::{self, Shared};
use crate::scope::Scope;

const LEASE: &str = "grid-operator";
const LEASE_DURATION: Duration = Duration::from_secs(15);

/// Takes part in the election until `shutdown`.
pub(crate) async fn run(
    args: &Args,
    client: Client,
    leadership: Leadership,
    scope: &Scope,
    shared: &Arc<Shared>,
    shutdown: &CancellationToken,
) {
    let namespace = args.pod_namespace.clone().unwrap_or_default();
    let identity = args.pod_name.clone().unwrap_or_default();
    let lease = KubeLease::new(client, &namespace, LEASE);
    let mut election = Election::new(lease, identity, leadership, LEASE_DURATION);
    while !shutdown.is_cancelled() {
        if election.step().await {
            lead(&mut election, scope, shared, shutdown).await;
        }
        tokio::select! {
            () = tokio::time::sleep(election.period()) => {}
            () = shutdown.cancelled() => {}
        }
    }
    election.release().await;
}

/// Runs the controllers as long as the lease can be renewed.
async fn lead(
    election: &mut Election<KubeLease>,
    scope: &Scope,
    shared: &Arc<Shared>,
    shutdown: &CancellationToken,
) {
    tracing::info!("leading");
    let term = shutdown.child_token();
    let controllers = controllers::run(scope, shared, term.clone());
    tokio::pin!(controllers);
    let mut tick = tokio::time::interval(election.period());
    loop {
        tokio::select! {
            () = &mut controllers => return,
            _ = tick.tick(), if !term.is_cancelled() => {
                if !election.step().await {
                    tracing::warn!("the lease is lost: the controllers stop");
                    term.cancel();
                }
            }
        }
    }
}
