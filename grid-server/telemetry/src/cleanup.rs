//! [`CleanupMetrics`]: what cleaning did, by the name that the configuration gives it.

use std::time::Duration;

use grid_cas::cleanup::{Policy, Report};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::Metrics;
use crate::bus::Bus;
use crate::published;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    name: String,
    result: &'static str,
}

/// Counts what cleaning does.
#[derive(Clone, Debug)]
pub struct CleanupMetrics {
    passes: Family<Ended, Counter>,
    seconds: Family<Name, Histogram, fn() -> Histogram>,
    deleted_bytes: Family<Name, Counter>,
    deleted_blobs: Family<Name, Counter>,
    failed_blobs: Family<Name, Counter>,
    bytes: Family<Name, Gauge>,
    blobs: Family<Name, Gauge>,
    low_bytes: Family<Name, Gauge>,
    kept_bytes: Family<Name, Gauge>,
    bus: Option<Bus>,
}

fn pass_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 4.0, 10))
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl CleanupMetrics {
    /// The metrics, in a registry.
    #[must_use]
    pub fn new(metrics: &Metrics, bus: Option<Bus>) -> Self {
        let this = Self {
            passes: Family::default(),
            seconds: Family::new_with_constructor(pass_seconds),
            deleted_bytes: Family::default(),
            deleted_blobs: Family::default(),
            failed_blobs: Family::default(),
            bytes: Family::default(),
            blobs: Family::default(),
            low_bytes: Family::default(),
            kept_bytes: Family::default(),
            bus,
        };
        metrics.register("cleanup_passes", "Passes of cleanup, by how they ended", &this.passes);
        metrics.register("cleanup_seconds", "How long passes of cleanup took", &this.seconds);
        metrics.register("cleanup_deleted_bytes", "Bytes that cleanup deleted", &this.deleted_bytes);
        metrics.register("cleanup_deleted_blobs", "Blobs that cleanup deleted", &this.deleted_blobs);
        metrics.register("cleanup_failed_blobs", "Blobs that could not be deleted", &this.failed_blobs);
        metrics.register("cleanup_bytes", "Bytes there after the last pass", &this.bytes);
        metrics.register("cleanup_blobs", "Blobs there after the last pass", &this.blobs);
        metrics.register("cleanup_low_watermark_bytes", "Where cleanup stops", &this.low_bytes);
        metrics.register(
            "cleanup_kept_bytes",
            "Bytes above the low watermark that the last pass had to keep",
            &this.kept_bytes,
        );
        this
    }

    /// A batch of a pass was deleted.
    pub fn deleted(&self, name: &str, took: Duration) {
        if let Some(bus) = &self.bus {
            published::batch(bus, name, took);
        }
    }

    /// An orphan of that age was deleted.
    pub fn orphaned(&self, bytes: u64, age: Duration) {
        if let Some(bus) = &self.bus {
            published::orphan(bus, age, bytes);
        }
    }

    /// A pass by `policy` ended, with a report or without.
    pub fn passed(&self, name: &str, policy: &Policy, report: Option<&Report>, took: Duration) {
        let result = if report.is_some() { "ok" } else { "failed" };
        self.passes.get_or_create(&Ended { name: name.to_owned(), result }).inc();
        let Some(report) = report else { return };
        if let Some(bus) = &self.bus {
            published::cleaned(bus, name, policy, report, took);
        }
        let of = Name { name: name.to_owned() };
        self.seconds.get_or_create(&of).observe(took.as_secs_f64());
        self.deleted_bytes.get_or_create(&of).inc_by(report.deleted.bytes);
        self.deleted_blobs.get_or_create(&of).inc_by(report.deleted.blobs);
        self.failed_blobs.get_or_create(&of).inc_by(report.failed.blobs);
        self.bytes.get_or_create(&of).set(gauge(report.after.bytes));
        self.blobs.get_or_create(&of).set(gauge(report.after.blobs));
        self.low_bytes.get_or_create(&of).set(gauge(report.target.bytes));
        let kept = report.kept.as_ref().map_or(0, |kept| kept.totals.bytes);
        self.kept_bytes.get_or_create(&of).set(gauge(kept));
    }
}
