//! What stores and cleanup report, as samples under BuildGrid's names.

use grid_cas::cleanup::Report;
use grid_cas::observer::{Method, StoreEvent};

use crate::bus::{Bus, Sample, Value};

/// Publishes what a store reports.
pub(crate) fn publish(bus: &Bus, store: &'static str, event: StoreEvent) {
    let tag = ("type", class(store).into());
    let count = |name, count| Sample { name, value: Value::Count(count), tags: vec![tag.clone()] };
    match event {
        StoreEvent::Call { method, error, took, .. } => {
            let exception = error.map_or_else(|| "None".into(), |code| format!("{code:?}").into());
            let tags = vec![tag, ("exceptionType", exception)];
            bus.send(Sample { name: duration(method), value: Value::Time(took), tags });
        }
        StoreEvent::Missing { asked, missing } => {
            bus.send(count("cas.blobs.count", asked));
            bus.send(count("cas.blobs_missing.count", missing));
            if asked > 0 {
                bus.send(percent("cas.blobs_missing.percent", missing, asked));
            }
        }
        StoreEvent::Cache { hits, misses } => {
            bus.send(count("storage.with_cache.cache_hit.count", hits));
            bus.send(count("storage.with_cache.cache_miss.count", misses));
            if hits + misses > 0 {
                bus.send(percent("storage.with_cache.cache_hit.percent", hits, hits + misses));
            }
        }
        StoreEvent::Repair { repaired, failed } => {
            bus.send(count("storage.replicated.required_replication.count", repaired + failed));
            bus.send(count("storage.replicated.replication.count", repaired));
            bus.send(count("storage.replicated.replication.errors.count", failed));
        }
        // BuildGrid has no name for these.
        StoreEvent::Deferred { .. }
        | StoreEvent::DeferredQueueFull
        | StoreEvent::DeferredWriteLost
        | StoreEvent::Evicted { .. }
        | StoreEvent::Dangling => {}
    }
}

/// Publishes what a pass of cleanup did.
pub(crate) fn cleaned(bus: &Bus, name: &str, report: &Report, took: std::time::Duration) {
    let send = |metric, value| {
        bus.send(Sample { name: metric, value, tags: vec![("instanceName", name.to_owned().into())] });
    };
    #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
    let gauge = |amount: u64| Value::Gauge(amount as f64);
    send("cleanup.duration.ms", Value::Time(took));
    send("cleanup.bytes_deleted.count", Value::Count(report.deleted.bytes));
    send("cleanup.total_bytes.count", gauge(report.after.bytes));
    send("cleanup.low_watermark_bytes.count", gauge(report.target.bytes));
    send("cleanup.total_blobs.count", gauge(report.after.blobs));
}

fn percent(name: &'static str, part: u64, whole: u64) -> Sample {
    #[allow(clippy::cast_precision_loss, reason = "a percentage needs no more")]
    let percent = part as f64 * 100.0 / whole as f64;
    Sample { name, value: Value::Distribution(percent), tags: Vec::new() }
}

const fn duration(method: Method) -> &'static str {
    match method {
        Method::BulkStat => "storage.bulk_stat.duration.ms",
        Method::StreamRead => "storage.stream_read.duration.ms",
        Method::StreamWrite => "storage.stream_write.duration.ms",
        Method::BulkRead => "storage.bulk_read.duration.ms",
        Method::BulkWrite => "storage.bulk_write.duration.ms",
        Method::BulkDelete => "storage.bulk_delete.duration.ms",
    }
}

/// A store's label as BuildGrid's dashboards know it.
fn class(store: &'static str) -> &'static str {
    match store {
        "lru" => "LRU",
        "disk" => "Disk",
        "redis" => "Redis",
        "s3" => "S3",
        "sql" => "SQL",
        "remote" => "Remote",
        "with_cache" => "WithCache",
        "size_differentiated" => "SizeDifferentiated",
        "sharded" => "Sharded",
        "replicated" => "Replicated",
        "sql_index" => "SQLIndex",
        "redis_index" => "RedisIndex",
        "redis_fmb_cache" => "RedisFMBCache",
        other => other,
    }
}
