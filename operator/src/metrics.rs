//! What the operator counts.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use grid_operator_apply::Leadership;
use grid_operator_controllers::casstorage::Cleanups;
use grid_operator_controllers::fleet::Fleets;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::requests::Requests;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciled {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPool {
    namespace: String,
    pool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStorage {
    namespace: String,
    storage: String,
}

/// The last run of each tier's cleanup.
#[derive(Default)]
struct Cleaned {
    bytes: Family<OfStorage, Gauge>,
    blobs: Family<OfStorage, Gauge>,
    succeeded: Family<OfStorage, Gauge>,
    ended: Family<OfStorage, Gauge>,
}

impl Cleaned {
    fn register(&self, registry: &mut Registry) {
        let mut register = |name: &str, help: &str, family: &Family<OfStorage, Gauge>| {
            registry.register(name, help, family.clone());
        };
        register("cleanup_freed_bytes", "Bytes that the last run of a tier's cleanup deleted", &self.bytes);
        register("cleanup_freed_blobs", "Blobs that it deleted", &self.blobs);
        register("cleanup_succeeded", "Whether it did what it had to", &self.succeeded);
        register("cleanup_ended_timestamp_seconds", "When it ended", &self.ended);
    }

    fn set(&self, cleanups: &Cleanups) {
        for family in [&self.bytes, &self.blobs, &self.succeeded, &self.ended] {
            family.clear();
        }
        for (tier, run) in cleanups.snapshot() {
            let of = OfStorage { namespace: tier.namespace, storage: tier.name };
            self.bytes.get_or_create(&of).set(run.bytes_freed);
            self.blobs.get_or_create(&of).set(run.blobs_freed);
            self.succeeded.get_or_create(&of).set(i64::from(run.succeeded));
            self.ended.get_or_create(&of).set(run.ended_at.map_or(0, |time| time.0.as_second()));
        }
    }
}

/// The demand for each pool, as Fleet tells it.
#[derive(Default)]
struct Demand {
    queued: Family<OfPool, Gauge>,
    executing: Family<OfPool, Gauge>,
    required: Family<OfPool, Gauge>,
    workers: Family<OfPool, Gauge>,
    oldest: Family<OfPool, Gauge<f64, AtomicU64>>,
    grids: Gauge,
    answering: Gauge,
}

impl Demand {
    fn register(&self, registry: &mut Registry) {
        registry.register("pool_queued", "Actions that wait for a pool", self.queued.clone());
        registry.register("pool_executing", "Actions that a pool runs", self.executing.clone());
        registry.register(
            "pool_required_slots",
            "Slots with which nothing would wait",
            self.required.clone(),
        );
        registry.register("pool_workers", "Workers of a pool that have a session", self.workers.clone());
        let help = "How long the oldest action has waited for a pool";
        registry.register_with_unit("pool_oldest_queue_age", help, Unit::Seconds, self.oldest.clone());
        registry.register("fleets", "Grids whose Fleet service is listened to", self.grids.clone());
        registry.register("fleets_answering", "Those of them that answer", self.answering.clone());
    }

    fn set(&self, fleets: &Fleets) {
        let (grids, answering) = fleets.reachable();
        self.grids.set(count(grids));
        self.answering.set(count(answering));
        for family in [&self.queued, &self.executing, &self.required, &self.workers] {
            family.clear();
        }
        self.oldest.clear();
        for (pool, demand) in fleets.snapshot() {
            let of = OfPool { namespace: pool.namespace, pool: pool.name };
            self.queued.get_or_create(&of).set(count(demand.queued));
            self.executing.get_or_create(&of).set(count(demand.executing));
            self.required.get_or_create(&of).set(count(demand.required_slots));
            self.workers.get_or_create(&of).set(count(demand.bots));
            self.oldest.get_or_create(&of).set(demand.oldest.unwrap_or_default().as_secs_f64());
        }
    }
}

fn count(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// The operator's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    reconciles: Family<Reconciled, Counter>,
    duration: Family<ByKind, Histogram>,
    leader: Gauge,
    demand: Demand,
    fleets: Arc<Fleets>,
    cleaned: Cleaned,
    cleanups: Cleanups,
}

impl Metrics {
    pub(crate) fn new(fleets: Arc<Fleets>, cleanups: Cleanups, requests: &Requests) -> Self {
        let mut registry = Registry::with_prefix("grid_operator");
        let reconciles = Family::default();
        let duration = Family::<ByKind, Histogram>::new_with_constructor(|| {
            Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
        });
        let leader = Gauge::default();
        registry.register("reconciles", "Reconciliations, by kind and result", reconciles.clone());
        registry.register_with_unit("reconcile", "Time of a reconciliation", Unit::Seconds, duration.clone());
        registry.register("leader", "Whether this replica writes", leader.clone());
        requests.register(&mut registry);
        let demand = Demand::default();
        demand.register(&mut registry);
        let cleaned = Cleaned::default();
        cleaned.register(&mut registry);
        Self { registry, reconciles, duration, leader, demand, fleets, cleaned, cleanups }
    }

    /// `result` is `ok`, `conflict` where someone else wrote first, or `error`.
    pub(crate) fn reconciled(&self, kind: &'static str, result: &'static str, took: Duration) {
        self.reconciles.get_or_create(&Reconciled { kind, result }).inc();
        self.duration.get_or_create(&ByKind { kind }).observe(took.as_secs_f64());
    }

    /// All of them in the OpenMetrics text format.
    pub(crate) fn text(&self, leadership: &Leadership) -> Result<String, std::fmt::Error> {
        self.leader.set(i64::from(leadership.is_held()));
        self.demand.set(&self.fleets);
        self.cleaned.set(&self.cleanups);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
