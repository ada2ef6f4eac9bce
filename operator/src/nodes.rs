//! Watches the nodes, where the operator may: of each only whether it is about to go, or silent.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use grid_operator_controllers::fleet::{Fleets, NodeState};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_all};
use tokio_util::sync::CancellationToken;

use crate::scope::Scope;

/// Tells of every change until `stop`; nothing where the operator looks after one namespace only, for nodes are the
/// whole cluster's.
pub(crate) async fn watch(scope: &Scope, fleets: Arc<Fleets>, stop: CancellationToken) {
    let Some(nodes) = scope.nodes() else { return };
    let mut events = pin!(watch_all(nodes, watcher::Config::default().timeout(200)).default_backoff());
    let mut seen = BTreeSet::new();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = stop.cancelled() => return,
        };
        match event {
            Some(Ok(event)) => note(event, &mut seen, &fleets),
            // The stream goes on by itself, more and more rarely.
            Some(Err(error)) => tracing::warn!(%error, "the nodes can't be watched: none is drained"),
            None => return,
        }
    }
}

fn note(event: Event<Node>, seen: &mut BTreeSet<String>, fleets: &Fleets) {
    match event {
        Event::Init => seen.clear(),
        Event::InitApply(node) => {
            fleets.node(&node.name_any(), NodeState::of(&node));
            seen.insert(node.name_any());
        }
        Event::InitDone => fleets.only_nodes(seen),
        Event::Apply(node) => fleets.node(&node.name_any(), NodeState::of(&node)),
        Event::Delete(node) => fleets.node(&node.name_any(), None),
    }
}
