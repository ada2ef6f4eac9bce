//! The watches of each controller, and how a reconciliation's result becomes the time of the next one.
//!
//! Watches are narrow: the three resources whole, everything else by the operator's label and as metadata only.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use grid_operator_api::{BuildGrid, CasStorage, WorkerPool};
use grid_operator_apply::Backoff;
use grid_operator_controllers::fleet::{Key, News};
use grid_operator_controllers::{Context, Error, Outcome, Result, buildgrid, casstorage, workerpool};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::DeserializeGuard;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use rand::RngExt;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::referents::{self, Changed, affected};
use crate::scope::Scope;
use crate::{nodes, scaler};

/// Resources that one controller works on at a time.
const CONCURRENCY: u16 = 8;

/// How long to wait with objects that the API server refused as they are.
const REFUSED_AGAIN: Duration = Duration::from_secs(600);

/// What the controllers share.
pub(crate) struct Shared {
    context: Context,
    metrics: Arc<Metrics>,
    /// Where KEDA may ask.
    scaler: Option<SocketAddr>,
    backoff: Backoff,
}

impl Shared {
    pub(crate) fn new(context: Context, metrics: Arc<Metrics>, scaler: Option<SocketAddr>) -> Self {
        Self { context, metrics, scaler, backoff: Backoff::default() }
    }

    fn retry(&self, uid: &str) -> Duration {
        self.backoff.failed(uid, rand::rng().random())
    }
}

/// Runs all three until `stop`, and answers KEDA meanwhile.
pub(crate) async fn run(scope: &Scope, shared: &Arc<Shared>, stop: CancellationToken) {
    let changes = referents::channel();
    let fleets = Arc::clone(&shared.context.fleets);
    let scaler = tokio::spawn(scaler::serve(shared.scaler, fleets, stop.clone()));
    tokio::join!(
        buildgrids(scope, Arc::clone(shared), &changes, stop.clone()),
        casstorages(scope, Arc::clone(shared), &changes, stop.clone()),
        workerpools(scope, Arc::clone(shared), &changes, stop.clone()),
        Box::pin(referents::watch(scope, changes.clone(), stop.clone())),
        nodes::watch(scope, Arc::clone(&shared.context.fleets), stop),
    );
    // It would wait for KEDA to go by itself.
    scaler.abort();
}

/// A resource that may not be of the shape that we know: one such must not stop the others.
pub(crate) type Guarded<K> = DeserializeGuard<K>;

async fn buildgrids(
    scope: &Scope,
    shared: Arc<Shared>,
    changes: &broadcast::Sender<Changed>,
    stop: CancellationToken,
) {
    let controller = Controller::new(scope.api::<Guarded<BuildGrid>>(), Scope::resources());
    let (grids, of_pools, of_referents) = (controller.store(), controller.store(), controller.store());
    let controller = controller
        .owns(scope.api::<ServiceAccount>(), Scope::managed())
        .owns(scope.api::<Secret>(), Scope::managed())
        .owns(scope.api::<ConfigMap>(), Scope::managed())
        .owns(scope.api::<Service>(), Scope::managed())
        .owns(scope.api::<Ingress>(), Scope::managed())
        .owns(scope.api::<NetworkPolicy>(), Scope::managed())
        .owns(scope.api::<Job>(), Scope::managed())
        .owns(scope.api::<Deployment>(), Scope::managed())
        .owns(scope.api::<StatefulSet>(), Scope::managed())
        .owns(scope.api::<PodDisruptionBudget>(), Scope::managed())
        .watches(scope.api::<Guarded<CasStorage>>(), Scope::resources(), move |storage| {
            referring(&grids, storage.meta().namespace.as_deref(), |grid: &BuildGrid| {
                grid.spec.storage_ref.as_ref().is_some_and(|r| r.name == storage.name_any())
            })
        })
        .watches(scope.api::<Guarded<WorkerPool>>(), Scope::resources(), move |pool| {
            let named = pool.0.as_ref().ok().and_then(|pool| pool.spec.grid_ref.name.clone());
            referring(&of_pools, pool.meta().namespace.as_deref(), |grid: &BuildGrid| {
                grid.metadata.name == named
            })
        })
        .reconcile_on(news(&shared, |news| match news {
            News::Grid(key) => Some(key),
            News::Pool(_) | News::Nodes => None,
        }))
        .reconcile_all_on(nodes_changed(&shared));
    let controller = controller.reconcile_on(affected(changes, of_referents, buildgrid::refers_to));
    drive(controller, shared, stop, "BuildGrid", |grid, shared| async move {
        buildgrid::reconcile(&grid, &shared.context).await
    })
    .await;
}

async fn casstorages(
    scope: &Scope,
    shared: Arc<Shared>,
    changes: &broadcast::Sender<Changed>,
    stop: CancellationToken,
) {
    let controller = Controller::new(scope.api::<Guarded<CasStorage>>(), Scope::resources());
    let (storages, of_referents) = (controller.store(), controller.store());
    let controller = controller
        .owns(scope.api::<ServiceAccount>(), Scope::managed())
        .owns(scope.api::<Secret>(), Scope::managed())
        .owns(scope.api::<ConfigMap>(), Scope::managed())
        .owns(scope.api::<Service>(), Scope::managed())
        .owns(scope.api::<CronJob>(), Scope::managed())
        .owns(scope.api::<Deployment>(), Scope::managed())
        .owns(scope.api::<StatefulSet>(), Scope::managed())
        .owns(scope.api::<PodDisruptionBudget>(), Scope::managed())
        .owns(scope.api::<NetworkPolicy>(), Scope::managed())
        .watches(scope.api::<Guarded<BuildGrid>>(), Scope::resources(), move |grid| {
            // One that was let go has to hear of it too, so every storage of the namespace looks again.
            referring(&storages, grid.meta().namespace.as_deref(), |_: &CasStorage| true)
        })
        .reconcile_all_on(nodes_changed(&shared));
    let controller = controller.reconcile_on(affected(changes, of_referents, casstorage::refers_to));
    drive(controller, shared, stop, "CasStorage", |storage, shared| async move {
        casstorage::reconcile(&storage, &shared.context).await
    })
    .await;
}

async fn workerpools(
    scope: &Scope,
    shared: Arc<Shared>,
    changes: &broadcast::Sender<Changed>,
    stop: CancellationToken,
) {
    let controller = Controller::new(scope.api::<Guarded<WorkerPool>>(), Scope::resources());
    let (pools, of_referents) = (controller.store(), controller.store());
    let controller = controller
        .owns(scope.api::<ServiceAccount>(), Scope::managed())
        .owns(scope.api::<Deployment>(), Scope::managed())
        .owns(scope.api::<NetworkPolicy>(), Scope::managed())
        .watches(scope.api::<Guarded<BuildGrid>>(), Scope::resources(), move |grid| {
            referring(&pools, grid.meta().namespace.as_deref(), |pool: &WorkerPool| {
                pool.spec.grid_ref.name.as_deref() == Some(grid.name_any().as_str())
            })
        })
        .reconcile_on(news(&shared, |news| match news {
            News::Pool(key) => Some(key),
            News::Grid(_) | News::Nodes => None,
        }))
        .reconcile_all_on(nodes_changed(&shared));
    let controller = controller.reconcile_on(affected(changes, of_referents, workerpool::refers_to));
    drive(controller, shared, stop, "WorkerPool", |pool, shared| async move {
        workerpool::reconcile(&pool, &shared.context).await
    })
    .await;
}

/// The resources of which the grids' Fleet services have news.
fn news<K>(
    shared: &Shared,
    about: fn(News) -> Option<Key>,
) -> impl Stream<Item = ObjectRef<K>> + Send + 'static
where
    K: Resource<DynamicType = ()>,
{
    // What a listener that fell behind has missed is told again within half a minute.
    BroadcastStream::new(shared.context.fleets.news())
        .filter_map(move |heard| std::future::ready(heard.ok().and_then(about)))
        .map(|key| ObjectRef::new(&key.name).within(&key.namespace))
}

/// Whenever a node is cordoned, falls silent or is well again.
fn nodes_changed(shared: &Shared) -> impl Stream<Item = ()> + Send + Sync + 'static {
    BroadcastStream::new(shared.context.fleets.news())
        .filter_map(|heard| std::future::ready(matches!(heard, Ok(News::Nodes)).then_some(())))
}

/// The resources of a namespace that refer to something.
pub(crate) fn referring<K>(
    store: &Store<Guarded<K>>,
    namespace: Option<&str>,
    refers: impl Fn(&K) -> bool,
) -> Vec<ObjectRef<Guarded<K>>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store
        .state()
        .iter()
        .filter(|guard| guard.meta().namespace.as_deref() == namespace && guard.0.as_ref().is_ok_and(&refers))
        .map(|guard| ObjectRef::from_obj(guard.as_ref()))
        .collect()
}

/// Runs one controller until `stop`.
async fn drive<K, F, R>(
    controller: Controller<Guarded<K>>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    kind: &'static str,
    reconcile: F,
) where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
    F: Fn(K, Arc<Shared>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Outcome>> + Send + 'static,
{
    let one = move |guard: Arc<Guarded<K>>, shared: Arc<Shared>| {
        let reconcile = reconcile.clone();
        async move { reconcile_one(guard, shared, kind, reconcile).await }
    };
    controller
        .with_config(Config::default().concurrency(CONCURRENCY))
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(one, error_policy, shared)
        .for_each(|result| {
            if let Err(error) = result {
                tracing::debug!(kind, %error, "a reconciliation did not finish");
            }
            std::future::ready(())
        })
        .await;
}

async fn reconcile_one<K, F, R>(
    guard: Arc<Guarded<K>>,
    shared: Arc<Shared>,
    kind: &'static str,
    reconcile: F,
) -> Result<Action>
where
    K: Resource<DynamicType = ()> + Clone,
    F: Fn(K, Arc<Shared>) -> R,
    R: Future<Output = Result<Outcome>>,
{
    let (name, namespace) = (guard.name_any(), guard.namespace().unwrap_or_default());
    let resource = match &guard.0 {
        Ok(resource) => resource.clone(),
        Err(error) => {
            tracing::error!(kind, namespace, name, %error, "not of the shape that this operator knows: it is left alone");
            return Ok(Action::await_change());
        }
    };
    let uid = guard.uid().unwrap_or_default();
    let started = Instant::now();
    let result = reconcile(resource, Arc::clone(&shared)).await;
    let word = match &result {
        Ok(_) => "ok",
        Err(error) if error.is_conflict() => "conflict",
        Err(_) => "error",
    };
    shared.metrics.reconciled(kind, word, started.elapsed());
    match result? {
        Outcome::AwaitChange => {
            shared.backoff.succeeded(&uid);
            Ok(Action::await_change())
        }
        Outcome::After(time) => {
            shared.backoff.succeeded(&uid);
            Ok(Action::requeue(time))
        }
        Outcome::Retry => Ok(Action::requeue(shared.retry(&uid))),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the signature that the controller asks for")]
fn error_policy<K: Resource<DynamicType = ()>>(
    resource: Arc<Guarded<K>>,
    error: &Error,
    shared: Arc<Shared>,
) -> Action {
    if error.is_conflict() {
        // Someone else wrote first: nothing is wrong, the next look sees it.
        return Action::requeue(Duration::from_millis(200));
    }
    let retry = shared.retry(&resource.uid().unwrap_or_default());
    let wait = if error.is_refused() { REFUSED_AGAIN } else { retry };
    tracing::warn!(
        kind = %K::kind(&()),
        namespace = resource.namespace(),
        name = resource.name_any(),
        generation = resource.meta().generation,
        %error,
        retry_seconds = wait.as_secs_f64(),
        "reconciling failed"
    );
    Action::requeue(wait)
}
