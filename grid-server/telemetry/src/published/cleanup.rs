//! Cleanup and the janitor.

use std::time::Duration;

use grid_cas::cleanup::{Policy, Report};

use super::{float, milliseconds, percent, ranges, send};
use crate::bus::{Bus, Value};

/// Publishes what a pass of cleanup did.
pub(crate) fn cleaned(bus: &Bus, name: &str, policy: &Policy, report: &Report, took: Duration) {
    let send = |metric, value| send(bus, metric, value, vec![("instanceName", name.to_owned().into())]);
    let gauge = |name, amount: f64| send(name, Value::Gauge(amount));
    send("cleanup.duration.ms", Value::Time(took));
    let seconds = took.as_secs_f64();
    if report.deleted.blobs > 0 && seconds > 0.0 {
        send("cleanup.bytes_deleted.count", Value::Count(report.deleted.bytes));
        gauge("cleanup.bytes_deleted.per_second", float(report.deleted.bytes) / seconds);
        gauge("cleanup.blobs_deleted.per_second", float(report.deleted.blobs) / seconds);
    }
    gauge("cleanup.total_bytes.count", float(report.after.bytes));
    gauge("cleanup.low_watermark_bytes.count", float(policy.low_bytes));
    gauge("cleanup.high_watermark_bytes.count", float(policy.high_bytes));
    gauge("cleanup.total_bytes_watermark.percent", percent(report.after.bytes, policy.high_bytes));
    gauge("cleanup.total_blobs.count", float(report.after.blobs));
    if let Some((high, low)) = policy.blob_counts {
        gauge("cleanup.low_watermark_blobs.count", float(low));
        gauge("cleanup.high_watermark_blobs.count", float(high));
        gauge("cleanup.total_blobs_watermark.percent", percent(report.after.blobs, high));
    }
}

/// Publishes how long it took to delete a batch.
pub(crate) fn batch(bus: &Bus, name: &str, took: Duration) {
    let tags = vec![("instanceName", name.to_owned().into())];
    send(bus, "cleanup.batch.duration.ms", Value::Time(took), tags);
}

/// Publishes an orphan that the janitor deleted.
pub(crate) fn orphan(bus: &Bus, age: Duration, bytes: u64) {
    send(bus, "cleanup.janitor.blob_age.ms", milliseconds(age), ranges(age, bytes));
    send(bus, "cleanup.janitor.blob_bytes.count", Value::Distribution(float(bytes)), ranges(age, bytes));
}
