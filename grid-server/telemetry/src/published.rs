//! What calls, stores, caches, schedulers and cleanup report, as samples under BuildGrid's names and tags.
//!
//! `docs/monitoring.md` has the table of all its names, and says which are not published.

use std::borrow::Cow;
use std::time::Duration;

use grid_cache::observer::CacheEvent;
use grid_cas::cleanup::{Policy, Report};
use grid_cas::observer::{Method, StoreEvent};
use grid_scheduler::fleet::demand::Demand;
use grid_scheduler::history::{Ending, Run};
use grid_scheduler::store::Depth;

use crate::bus::{Bus, Sample, Value};

/// A sample's tags.
type Tags = Vec<(&'static str, Cow<'static, str>)>;

/// What a call did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Called<'a> {
    /// The full name of the service.
    pub(crate) service: &'static str,
    pub(crate) method: &'static str,
    /// The gRPC code, in Prometheus's spelling.
    pub(crate) code: &'static str,
    pub(crate) instance: &'a str,
    pub(crate) took: Duration,
    /// The bytes of its answer.
    pub(crate) sent: u64,
}

/// Publishes how many calls there are, one that begins included.
pub(crate) fn begun(bus: &Bus, service: &'static str, method: &'static str, ongoing: u64) {
    let tags = vec![("serviceName", short(service).into()), ("method", method.into())];
    bus.send(Sample { name: "rpc.ongoing_requests.count", value: Value::Distribution(float(ongoing)), tags });
}

/// Publishes a call that ended.
pub(crate) fn called(bus: &Bus, call: &Called<'_>) {
    let tags: Tags = vec![
        ("serviceName", short(call.service).into()),
        ("method", call.method.into()),
        ("status", status(call.code).into()),
        ("instanceName", call.instance.to_owned().into()),
    ];
    bus.send(Sample { name: "rpc.duration.ms", value: Value::Time(call.took), tags: tags.clone() });
    bus.send(Sample { name: "rpc.output_bytes.count", value: Value::Count(call.sent), tags });
}

/// A service as BuildGrid tags it: without its package.
fn short(service: &'static str) -> &'static str {
    service.rsplit('.').next().unwrap_or(service)
}

/// A gRPC code as BuildGrid tags it, from its spelling in Prometheus.
fn status(code: &'static str) -> &'static str {
    match code {
        "Canceled" => "CANCELLED",
        "InvalidArgument" => "INVALID_ARGUMENT",
        "DeadlineExceeded" => "DEADLINE_EXCEEDED",
        "NotFound" => "NOT_FOUND",
        "AlreadyExists" => "ALREADY_EXISTS",
        "PermissionDenied" => "PERMISSION_DENIED",
        "ResourceExhausted" => "RESOURCE_EXHAUSTED",
        "FailedPrecondition" => "FAILED_PRECONDITION",
        "Aborted" => "ABORTED",
        "OutOfRange" => "OUT_OF_RANGE",
        "Unimplemented" => "UNIMPLEMENTED",
        "Internal" => "INTERNAL",
        "Unavailable" => "UNAVAILABLE",
        "DataLoss" => "DATA_LOSS",
        "Unauthenticated" => "UNAUTHENTICATED",
        "OK" => "OK",
        _ => "UNKNOWN",
    }
}

/// Publishes what an action cache reports.
pub(crate) fn looked_up(bus: &Bus, event: CacheEvent) {
    let name = match event {
        CacheEvent::Incomplete => "action_cache.invalid_cache.count",
        CacheEvent::MirrorsMatch => "action_cache.mirrored_matches.count",
        CacheEvent::MirrorsDiffer => "action_cache.mirrored_mismatches.count",
        // BuildGrid has no name for these.
        CacheEvent::Hit | CacheEvent::Miss | CacheEvent::FrontHit | CacheEvent::FrontMiss => return,
    };
    bus.send(Sample { name, value: Value::Count(1), tags: Vec::new() });
}

/// Publishes how long a job waited for its first lease.
pub(crate) fn assigned(bus: &Bus, pool: &str, waited: Duration) {
    let tags = vec![("state", "Queued".into()), ("propertyLabel", pool.to_owned().into())];
    bus.send(Sample { name: JOB, value: Value::Time(waited), tags });
}

/// Publishes how long an action ran that finished, and how long its client waited altogether.
pub(crate) fn ran(bus: &Bus, pool: &str, run: &Run) {
    if run.ending != Ending::Finished {
        return;
    }
    let instance = if run.instance.is_empty() { "unnamed" } else { &run.instance };
    for (state, took) in [("Worker", run.run_time()), ("Total", run.ended_at.since(run.queued_at))] {
        let tags = vec![
            ("state", state.into()),
            ("propertyLabel", pool.to_owned().into()),
            ("instanceName", instance.to_owned().into()),
        ];
        bus.send(Sample { name: JOB, value: Value::Time(took), tags });
    }
}

const JOB: &str = "job.duration.ms";

/// Publishes the queue and the bots: by pool where pools are declared, the jobs of the whole grid where none are.
pub(crate) fn counted(bus: &Bus, depths: &[Depth], demand: &Demand) {
    let gauge = |name, count, state: &'static str, pool: &str| {
        let tags = vec![("state", state.into()), ("propertyLabel", pool.to_owned().into())];
        bus.send(Sample { name, value: Value::Gauge(float(count)), tags });
    };
    for (pool, of) in &demand.pools {
        gauge("scheduler.jobs.count", of.queued, "QUEUED", pool);
        gauge("scheduler.jobs.count", of.executing, "EXECUTING", pool);
        gauge("scheduler.bots.count", of.bots.into(), "OK", pool);
        gauge("scheduler.available_bot_capacity.count", of.idle_slots, "OK", pool);
    }
    if demand.pools.is_empty() {
        gauge("scheduler.jobs.count", depths.iter().map(|depth| depth.queued).sum(), "QUEUED", "");
        gauge("scheduler.jobs.count", depths.iter().map(|depth| depth.executing).sum(), "EXECUTING", "");
    }
}

/// Publishes what a store reports.
pub(crate) fn publish(bus: &Bus, store: &'static str, event: StoreEvent) {
    let tags: Tags = vec![("type", class(store).into())];
    let count = |name, count| Sample { name, value: Value::Count(count), tags: tags.clone() };
    let one_of_many = |name, value| Sample { name, value: Value::Distribution(value), tags: tags.clone() };
    match event {
        StoreEvent::Call { method, error, took, bytes, .. } => {
            let mut tags = tags.clone();
            tags.extend(error.map(|code| ("exceptionType", format!("{code:?}").into())));
            bus.send(Sample { name: duration(method), value: Value::Time(took), tags });
            if bytes > 0 {
                bus.send(one_of_many("cas.blob_bytes.count", float(bytes)));
            }
        }
        StoreEvent::Missing { asked, missing } => {
            bus.send(one_of_many("cas.blobs.count", float(asked)));
            bus.send(one_of_many("cas.blobs_missing.count", float(missing)));
            if asked > 0 {
                bus.send(one_of_many("cas.blobs_missing.percent", percent(missing, asked)));
            }
        }
        StoreEvent::Cache { hits, misses } => {
            bus.send(one_of_many("storage.with_cache.cache_hit.count", float(hits)));
            bus.send(one_of_many("storage.with_cache.cache_miss.count", float(misses)));
            if hits + misses > 0 {
                bus.send(one_of_many("storage.with_cache.cache_hit.percent", percent(hits, hits + misses)));
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
pub(crate) fn cleaned(bus: &Bus, name: &str, policy: &Policy, report: &Report, took: Duration) {
    let send = |metric, value| {
        bus.send(Sample { name: metric, value, tags: vec![("instanceName", name.to_owned().into())] });
    };
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

#[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
const fn float(amount: u64) -> f64 {
    amount as f64
}

/// 0 of nothing.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { float(part) * 100.0 / float(whole) }
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
