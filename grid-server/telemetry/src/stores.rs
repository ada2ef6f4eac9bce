//! What stores report, as metrics. The label `store` is the tag's name, as everywhere.

use grid_cas::observer::{StoreEvent, StoreObserver};
use grid_core::ErrorCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::Metrics;
use crate::bus::Bus;
use crate::published;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Store {
    store: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    store: &'static str,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    store: &'static str,
    method: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    store: &'static str,
    answer: &'static str,
}

/// Counts what stores report.
#[derive(Debug)]
pub struct StoreMetrics {
    calls: Family<Ended, Counter>,
    seconds: Family<Call, Histogram, fn() -> Histogram>,
    blobs: Family<Call, Counter>,
    bytes: Family<Call, Counter>,
    existence: Family<Answer, Counter>,
    cache: Family<Answer, Counter>,
    deferred_bytes: Family<Store, Gauge>,
    deferred_full: Family<Store, Counter>,
    deferred_lost: Family<Store, Counter>,
    evicted: Family<Store, Counter>,
    evicted_bytes: Family<Store, Counter>,
    youngest_evicted: Family<Store, Histogram, fn() -> Histogram>,
    repairs: Family<Answer, Counter>,
    dangling: Family<Store, Counter>,
    bus: Option<Bus>,
}

fn call_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 4.0, 10))
}

fn unused_seconds() -> Histogram {
    Histogram::new([60.0, 600.0, 3_600.0, 10_800.0, 86_400.0, 604_800.0])
}

impl StoreMetrics {
    /// The metrics, in a registry.
    #[must_use]
    pub fn new(metrics: &Metrics, bus: Option<Bus>) -> Self {
        let this = Self {
            calls: Family::default(),
            seconds: Family::new_with_constructor(call_seconds),
            blobs: Family::default(),
            bytes: Family::default(),
            existence: Family::default(),
            cache: Family::default(),
            deferred_bytes: Family::default(),
            deferred_full: Family::default(),
            deferred_lost: Family::default(),
            evicted: Family::default(),
            evicted_bytes: Family::default(),
            youngest_evicted: Family::new_with_constructor(unused_seconds),
            repairs: Family::default(),
            dangling: Family::default(),
            bus,
        };
        this.register(metrics);
        this
    }

    fn register(&self, metrics: &Metrics) {
        metrics.register("store_calls", "Calls of a store that ended, by how", &self.calls);
        metrics.register(
            "store_call_seconds",
            "How long calls of a store took, streaming included",
            &self.seconds,
        );
        metrics.register("store_blobs", "Blobs that calls of a store named", &self.blobs);
        metrics.register("store_bytes", "Bytes of content that went through calls of a store", &self.bytes);
        metrics.register(
            "store_existence",
            "Blobs whose existence was asked for, by the answer",
            &self.existence,
        );
        metrics.register(
            "store_cache",
            "Blobs looked for in a cache before a store, by the answer",
            &self.cache,
        );
        metrics.register(
            "store_deferred_bytes",
            "Bytes that wait for their write to a fallback",
            &self.deferred_bytes,
        );
        metrics.register(
            "store_deferred_full",
            "Writes not deferred, for the queue was full",
            &self.deferred_full,
        );
        metrics.register("store_deferred_lost", "Deferred writes that failed for good", &self.deferred_lost);
        metrics.register("store_evicted", "Blobs that left to make room", &self.evicted);
        metrics.register("store_evicted_bytes", "Bytes of blobs that left to make room", &self.evicted_bytes);
        metrics.register(
            "store_evicted_unused_seconds",
            "How long evicted blobs were unused",
            &self.youngest_evicted,
        );
        metrics.register("store_repairs", "Copies that replicas lacked, by what came of it", &self.repairs);
        metrics.register("store_dangling", "Index entries without a blob, removed", &self.dangling);
    }
}

impl StoreObserver for StoreMetrics {
    fn event(&self, store: &'static str, event: StoreEvent) {
        if let Some(bus) = &self.bus {
            published::publish(bus, store, event);
        }
        let of = Store { store };
        let answered = |family: &Family<Answer, Counter>, answer, count| {
            family.get_or_create(&Answer { store, answer }).inc_by(count);
        };
        match event {
            StoreEvent::Call { method, error, took, blobs, bytes } => {
                let method = method.label();
                let call = Call { store, method };
                self.calls.get_or_create(&Ended { store, method, result: result(error) }).inc();
                self.seconds.get_or_create(&call).observe(took.as_secs_f64());
                self.blobs.get_or_create(&call).inc_by(blobs);
                self.bytes.get_or_create(&call).inc_by(bytes);
            }
            StoreEvent::Missing { asked, missing } => {
                answered(&self.existence, "missing", missing);
                answered(&self.existence, "present", asked.saturating_sub(missing));
            }
            StoreEvent::Cache { hits, misses } => {
                answered(&self.cache, "hit", hits);
                answered(&self.cache, "miss", misses);
            }
            StoreEvent::Deferred { waiting } => {
                self.deferred_bytes.get_or_create(&of).set(i64::try_from(waiting).unwrap_or(i64::MAX));
            }
            StoreEvent::DeferredQueueFull => drop(self.deferred_full.get_or_create(&of).inc()),
            StoreEvent::DeferredWriteLost => drop(self.deferred_lost.get_or_create(&of).inc()),
            StoreEvent::Evicted { bytes, unused_for } => {
                self.evicted.get_or_create(&of).inc();
                self.evicted_bytes.get_or_create(&of).inc_by(bytes);
                self.youngest_evicted.get_or_create(&of).observe(unused_for.as_secs_f64());
            }
            StoreEvent::Repair { repaired, failed } => {
                answered(&self.repairs, "repaired", repaired);
                answered(&self.repairs, "failed", failed);
            }
            StoreEvent::RepairQueueFull => answered(&self.repairs, "not_queued", 1),
            // The calls themselves are counted.
            StoreEvent::Deleted { .. } | StoreEvent::DeleteErrors(_) | StoreEvent::Index { .. } => {}
            StoreEvent::Dangling => drop(self.dangling.get_or_create(&of).inc()),
        }
    }
}

const fn result(error: Option<ErrorCode>) -> &'static str {
    match error {
        None => "ok",
        Some(ErrorCode::NotFound) => "not_found",
        Some(ErrorCode::Cancelled) => "cancelled",
        Some(ErrorCode::InvalidArgument | ErrorCode::OutOfRange) => "invalid",
        Some(code) if code.is_transient() => "transient",
        Some(_) => "failed",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use grid_cas::observer::Method;

    use super::*;

    #[test]
    fn calls_are_counted_by_how_they_ended() {
        let metrics = Metrics::default();
        let stores = StoreMetrics::new(&metrics, None);
        let call = |error| StoreEvent::Call {
            method: Method::BulkRead,
            error,
            took: Duration::from_millis(1),
            blobs: 3,
            bytes: 100,
        };
        stores.event("lru", call(None));
        stores.event("lru", call(Some(ErrorCode::NotFound)));
        stores.event("lru", StoreEvent::Missing { asked: 5, missing: 2 });
        let text = metrics.encode();
        for line in [
            r#"grid_store_calls_total{store="lru",method="bulk_read",result="ok"} 1"#,
            r#"grid_store_calls_total{store="lru",method="bulk_read",result="not_found"} 1"#,
            r#"grid_store_bytes_total{store="lru",method="bulk_read"} 200"#,
            r#"grid_store_existence_total{store="lru",answer="present"} 3"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
