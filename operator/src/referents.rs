//! Watches the Secrets and ConfigMaps that others made, for resources refer to them: a new password reaches the servers when it is
//! written. Of each only namespace and name are looked at, and none is kept.

use std::pin::pin;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use grid_operator_controllers::Referent;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Resource;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;

use crate::controllers::{Guarded, referring};
use crate::scope::Scope;

/// Changes that may wait to be heard. What a controller that fell further behind has missed is found when it looks by itself,
/// within five minutes.
const KEPT: usize = 4_096;

/// Something of a namespace is new, another, or gone.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    namespace: String,
    what: Referent,
}

/// Where changes are told.
pub(crate) fn channel() -> broadcast::Sender<Changed> {
    broadcast::channel(KEPT).0
}

/// Tells of every change until `stop`.
pub(crate) async fn watch(scope: &Scope, changes: broadcast::Sender<Changed>, stop: CancellationToken) {
    // Helm keeps its releases in Secrets, large ones, and nobody refers to them.
    let secrets = Scope::others().fields("type!=helm.sh/release.v1");
    let secrets =
        watcher(scope.api::<PartialObjectMeta<Secret>>(), secrets).default_backoff().touched_objects();
    let maps = watcher(scope.api::<PartialObjectMeta<ConfigMap>>(), Scope::others())
        .default_backoff()
        .touched_objects();
    let secrets = secrets.map_ok(|object| changed(&object, Referent::Secret));
    let maps = maps.map_ok(|object| changed(&object, Referent::ConfigMap));
    let mut events = pin!(stream::select(secrets, maps));
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = stop.cancelled() => return,
        };
        match event {
            // Nobody listens where the operator is ending.
            Some(Ok(changed)) => drop(changes.send(changed)),
            // The streams go on by themselves, more and more rarely.
            Some(Err(error)) => {
                tracing::warn!(%error, "Secrets or ConfigMaps can't be watched: that they change is seen within five minutes");
            }
            None => return,
        }
    }
}

fn changed<K>(object: &PartialObjectMeta<K>, what: fn(String) -> Referent) -> Changed {
    let metadata = &object.metadata;
    Changed {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        what: what(metadata.name.clone().unwrap_or_default()),
    }
}

/// The resources that refer to what changed.
pub(crate) fn affected<K>(
    changes: &broadcast::Sender<Changed>,
    store: Store<Guarded<K>>,
    refers: fn(&K, &Referent) -> bool,
) -> impl Stream<Item = ObjectRef<Guarded<K>>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    BroadcastStream::new(changes.subscribe()).filter_map(|heard| std::future::ready(heard.ok())).flat_map(
        move |Changed { namespace, what }| {
            stream::iter(referring(&store, Some(&namespace), |resource| refers(resource, &what)))
        },
    )
}
