//! Storages, indexes among them.

use grid_cas::observer::{IndexCall, Method, StoreEvent};

use super::{Tags, float, percent, send, size_range, timer};
use crate::bus::{Bus, Value};

/// Publishes what a store reports.
pub(crate) fn publish(bus: &Bus, store: &'static str, event: StoreEvent) {
    let tags: Tags = vec![("type", class(store).into())];
    let count = |name, count| send(bus, name, Value::Count(count), tags.clone());
    let one_of_many = |name, value| send(bus, name, Value::Distribution(value), tags.clone());
    match event {
        StoreEvent::Call { method, error, took, blobs, bytes } => {
            timer(bus, duration(method, blobs), took, error, tags.clone());
            if bytes > 0 {
                one_of_many("cas.blob_bytes.count", float(bytes));
            }
        }
        StoreEvent::Missing { asked, missing } => {
            one_of_many("cas.blobs.count", float(asked));
            one_of_many("cas.blobs_missing.count", float(missing));
            if asked > 0 {
                one_of_many("cas.blobs_missing.percent", percent(missing, asked));
            }
        }
        StoreEvent::Cache { hits, misses } => {
            one_of_many("storage.with_cache.cache_hit.count", float(hits));
            one_of_many("storage.with_cache.cache_miss.count", float(misses));
            if hits + misses > 0 {
                one_of_many("storage.with_cache.cache_hit.percent", percent(hits, hits + misses));
            }
        }
        StoreEvent::Repair { repaired, failed } => {
            count("storage.replicated.required_replication.count", repaired + failed);
            count("storage.replicated.replication.count", repaired);
            count("storage.replicated.replication.errors.count", failed);
        }
        StoreEvent::DeleteErrors(blobs) => count("storage.delete_errors.count", blobs),
        StoreEvent::RepairQueueFull => count("storage.replicated.replication_queue_full.count", 1),
        StoreEvent::Index { call, error, took } => timer(bus, of_index(call), took, error, Vec::new()),
        StoreEvent::Deleted { bytes } if store == "s3" => {
            let tags = vec![("objectSizeRange", size_range(bytes).into())];
            send(bus, "storage.s3.blob_bytes.count", Value::Distribution(float(bytes)), tags);
        }
        // BuildGrid has no name for these.
        StoreEvent::Deferred { .. }
        | StoreEvent::DeferredQueueFull
        | StoreEvent::DeferredWriteLost
        | StoreEvent::Deleted { .. }
        | StoreEvent::Evicted { .. }
        | StoreEvent::Dangling => {}
    }
}

/// A call for one blob has a name of its own.
const fn duration(method: Method, blobs: u64) -> &'static str {
    match method {
        Method::BulkStat if blobs == 1 => "storage.stat.duration.ms",
        Method::BulkRead if blobs == 1 => "storage.read.duration.ms",
        Method::BulkWrite if blobs == 1 => "storage.write.duration.ms",
        Method::BulkDelete if blobs == 1 => "storage.delete_blob.duration.ms",
        Method::BulkStat => "storage.bulk_stat.duration.ms",
        Method::StreamRead => "storage.stream_read.duration.ms",
        Method::StreamWrite => "storage.stream_write.duration.ms",
        Method::BulkRead => "storage.bulk_read.duration.ms",
        Method::BulkWrite => "storage.bulk_write.duration.ms",
        Method::BulkDelete => "storage.bulk_delete.duration.ms",
    }
}

const fn of_index(call: IndexCall) -> &'static str {
    match call {
        IndexCall::Insert => "storage.sql_index.save_digest.duration.ms",
        IndexCall::Present => "storage.sql_index.update_timestamp.duration.ms",
        IndexCall::Totals => "storage.sql_index.size_calculation.duration.ms",
        IndexCall::Claim => "storage.sql_index.delete_n_bytes.duration.ms",
        IndexCall::Forget => "storage.sql_index.bulk_delete_index.duration.ms",
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
