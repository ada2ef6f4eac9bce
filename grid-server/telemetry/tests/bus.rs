//! The bus to each of its targets, in each of its forms.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use grid_cache::observer::{CacheEvent, CacheObserver as _};
use grid_cas::observer::{IndexCall, Method, StoreEvent, StoreObserver as _};
use grid_core::call::tell;
use grid_core::{CallEvent, CallInstance, InstanceName, Step, Stopwatch};
use grid_proto::buildgrid::bus_message::Record;
use grid_proto::buildgrid::{BusMessage, metric_record};
use grid_scheduler::engine::SweepKind;
use grid_scheduler::quota::{Quota, Share};
use grid_scheduler::service::{
    Assigned, Bots, CohortShare, Counts, Jobs, Kind, Observer as _, SchedulerEvent,
};
use grid_scheduler::session::BotStatus;
use grid_telemetry::Metrics;
use grid_telemetry::bus::{Bus, BusOptions, Format, Sample, TagFormat, Target, Value};
use grid_telemetry::caches::CacheMetrics;
use grid_telemetry::cleanup::CleanupMetrics;
use grid_telemetry::rpc::RpcMetrics;
use grid_telemetry::scheduler::SchedulerMetrics;
use grid_telemetry::stores::StoreMetrics;
use grid_telemetry::watched::{Watch as _, Watched as _};
use prost::Message as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::{UdpSocket, UnixStream};

fn options(target: Target, format: Format) -> BusOptions {
    BusOptions {
        target,
        format,
        prefix: "grid".into(),
        tags: TagFormat::Influx,
        additional_tags: BTreeMap::from([("site".to_owned(), "a".to_owned())]),
    }
}

fn sample(count: u64) -> Sample {
    Sample { name: "cas.blobs.count".into(), value: Value::Count(count), tags: vec![("type", "LRU".into())] }
}

async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.unwrap()
}

async fn lines(path: &Path, count: usize) -> Vec<String> {
    until(async || {
        let text = tokio::fs::read_to_string(path).await.unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        (text.ends_with('\n') && lines.len() >= count).then_some(lines)
    })
    .await
}

#[tokio::test]
async fn statsd_by_udp() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let target = Target::Udp(socket.local_addr().unwrap().to_string());
    let bus = Bus::start(options(target, Format::Statsd), &Metrics::default());
    (0..500).for_each(|count| bus.send(sample(count)));
    let mut heard = Vec::new();
    while heard.len() < 500 {
        let mut datagram = vec![0; 65_536];
        let length = socket.recv(&mut datagram).await.unwrap();
        assert!(length <= 1_400, "a datagram of {length} bytes is cut on the way");
        heard.extend(std::str::from_utf8(&datagram[..length]).unwrap().lines().map(str::to_owned));
    }
    let expected: Vec<_> =
        (0..500).map(|count| format!("grid.cas.blobs.count,site=a,type=LRU:{count}|c")).collect();
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn json_into_a_file_that_is_added_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics");
    std::fs::write(&path, "before\n").unwrap();
    let bus = Bus::start(options(Target::File(path.clone()), Format::Json), &Metrics::default());
    bus.send(sample(3));
    let lines = lines(&path, 2).await;
    assert_eq!(lines[0], "before");
    let message: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(message["sequenceNumber"], "1");
    assert_eq!(message["metricRecord"]["name"], "grid.cas.blobs.count");
    assert_eq!(message["metricRecord"]["count"], 3.0);
    assert_eq!(message["metricRecord"]["metadata"]["site"], "a");
}

/// The next message: four bytes that say how long it is, and it.
async fn message(stream: &mut UnixStream) -> BusMessage {
    let length = u32::from_ne_bytes(heard(stream, 4).await.try_into().unwrap());
    let bytes = heard(stream, usize::try_from(length).unwrap()).await;
    BusMessage::decode(&bytes[..]).unwrap()
}

async fn heard(stream: &mut UnixStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let read = stream.read_exact(&mut bytes);
    tokio::time::timeout(Duration::from_secs(30), read).await.unwrap().unwrap();
    bytes
}

#[tokio::test]
async fn protocol_buffers_to_all_who_connect_to_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    let metrics = Metrics::default();
    let bus = Bus::start(options(Target::Socket(path.clone()), Format::Binary), &metrics);
    let connect = async || UnixStream::connect(&path).await.ok();
    let (mut one, mut other) = (until(connect).await, until(connect).await);
    bus.send(sample(300));
    bus.send(sample(2));
    for (stream, numbers) in [(&mut one, [1, 2]), (&mut other, [1, 2])] {
        for (number, count) in numbers.into_iter().zip([300.0, 2.0]) {
            let message = message(stream).await;
            assert_eq!(message.sequence_number, number);
            let Some(Record::MetricRecord(record)) = message.record else { panic!("{:?}", message.record) };
            assert_eq!(record.data, Some(metric_record::Data::Count(count)));
        }
    }
    // Who leaves is missed by nobody, and nothing counts as lost.
    drop(one);
    for number in 3..6 {
        bus.send(sample(1));
        assert_eq!(message(&mut other).await.sequence_number, number);
    }
    assert!(metrics.encode().contains("grid_monitoring_dropped_total 0"), "{}", metrics.encode());
}

/// What is published by what is done with a bus.
async fn published(work: impl FnOnce(&Metrics, &Bus)) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics");
    let metrics = Metrics::default();
    let mut wanted = options(Target::File(path.clone()), Format::Statsd);
    (wanted.prefix, wanted.additional_tags) = (String::new(), BTreeMap::new());
    let bus = Bus::start(wanted, &metrics);
    work(&metrics, &bus);
    bus.flush(Duration::from_secs(30)).await;
    tokio::fs::read_to_string(path).await.unwrap().lines().map(str::to_owned).collect()
}

/// Each line begins as is expected: how long something took differs.
fn begin(lines: &[String], expected: &[&str]) {
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line} is not {expected}");
    }
}

/// One call whose answer ends with `status`; within it `work` is done.
fn call(metrics: &Metrics, bus: &Bus, status: &'static str, work: impl FnOnce()) {
    let calls = RpcMetrics::new(metrics, ["/a.b.Execution/Execute"], Some(bus.clone()));
    let mut request = http::Request::builder().uri("/a.b.Execution/Execute").body(()).unwrap();
    let mut call = calls.begin(&mut request).unwrap();
    request.extensions().get::<CallInstance>().unwrap().note(&InstanceName::default());
    call.sent(7);
    call.within(work);
    call.trailers(&http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]));
}

#[tokio::test]
async fn what_calls_tell_has_buildgrids_names_tags_and_kinds() {
    let lines = published(|metrics, bus| {
        call(metrics, bus, "5", || {
            tell(CallEvent::Received(3));
            tell(CallEvent::Received(2));
            tell(CallEvent::Authorized(Duration::from_millis(1)));
            tell(CallEvent::Authorized(Duration::from_millis(2)));
            tell(CallEvent::ResultAge(Duration::from_secs(2)));
            drop(Stopwatch::start(Step::GetTree));
            let caches = CacheMetrics::new(metrics, Some(bus.clone()));
            [CacheEvent::Hit, CacheEvent::Incomplete].into_iter().for_each(|event| caches.event(event));
        });
        // Without authorization there is nothing to tell of it.
        call(metrics, bus, "0", || {});
    })
    .await;
    let of_call = "instanceName=unnamed,method=Execute,serviceName=Execution";
    let ended = |name: &str, status: &str| format!("{name},{of_call},status={status}:");
    let expected = [
        "rpc.ongoing_requests.count,method=Execute,serviceName=Execution:1|ms".to_owned(),
        format!("action_cache.result_age.ms,{of_call}:2000|ms"),
        format!("storage.get_tree.duration.ms,exceptionType=Cancelled,{of_call}:"),
        format!("action_cache.invalid_cache.count,{of_call}:1|c"),
        ended("rpc.duration.ms", "NOT_FOUND"),
        ended("rpc.input_bytes.count", "NOT_FOUND") + "5|c",
        ended("rpc.output_bytes.count", "NOT_FOUND") + "7|c",
        ended("rpc.auth.duration.ms", "NOT_FOUND") + "3.000|ms",
        "rpc.ongoing_requests.count,method=Execute,serviceName=Execution:1|ms".to_owned(),
        ended("rpc.duration.ms", "OK"),
        ended("rpc.input_bytes.count", "OK") + "0|c",
        ended("rpc.output_bytes.count", "OK") + "7|c",
    ];
    begin(&lines, &expected.each_ref().map(String::as_str));
}

fn store_call(method: Method, blobs: u64) -> StoreEvent {
    StoreEvent::Call { method, error: None, took: Duration::from_millis(1), blobs, bytes: 0 }
}

#[tokio::test]
async fn what_storages_tell_has_buildgrids_names_tags_and_kinds() {
    let lines = published(|metrics, bus| {
        let stores = StoreMetrics::new(metrics, Some(bus.clone()));
        stores.event("lru", StoreEvent::Missing { asked: 4, missing: 1 });
        for method in [Method::BulkStat, Method::BulkRead, Method::BulkWrite, Method::BulkDelete] {
            [1, 2].into_iter().for_each(|blobs| stores.event("disk", store_call(method, blobs)));
        }
        stores.event("disk", StoreEvent::Deleted { bytes: 1 });
        stores.event("s3", StoreEvent::Deleted { bytes: 3_000 });
        stores.event("s3", StoreEvent::DeleteErrors(2));
        stores.event("replicated", StoreEvent::RepairQueueFull);
        let calls =
            [IndexCall::Insert, IndexCall::Present, IndexCall::Totals, IndexCall::Claim, IndexCall::Forget];
        for call in calls {
            let took = Duration::from_millis(2);
            stores.event("sql_index", StoreEvent::Index { call, error: None, took });
        }
        // Within a call, a sample has its tags too.
        call(metrics, bus, "0", || stores.event("lru", store_call(Method::BulkStat, 2)));
    })
    .await;
    let expected = [
        "cas.blobs.count,type=LRU:4|ms",
        "cas.blobs_missing.count,type=LRU:1|ms",
        "cas.blobs_missing.percent,type=LRU:25|ms",
        "storage.stat.duration.ms,type=Disk:1.000|ms",
        "storage.bulk_stat.duration.ms,type=Disk:1.000|ms",
        "storage.read.duration.ms,type=Disk:1.000|ms",
        "storage.bulk_read.duration.ms,type=Disk:1.000|ms",
        "storage.write.duration.ms,type=Disk:1.000|ms",
        "storage.bulk_write.duration.ms,type=Disk:1.000|ms",
        "storage.delete_blob.duration.ms,type=Disk:1.000|ms",
        "storage.bulk_delete.duration.ms,type=Disk:1.000|ms",
        "storage.s3.blob_bytes.count,objectSizeRange=2000_TO_4000:3000|ms",
        "storage.delete_errors.count,type=S3:2|c",
        "storage.replicated.replication_queue_full.count,type=Replicated:1|c",
        "storage.sql_index.save_digest.duration.ms:2.000|ms",
        "storage.sql_index.update_timestamp.duration.ms:2.000|ms",
        "storage.sql_index.size_calculation.duration.ms:2.000|ms",
        "storage.sql_index.delete_n_bytes.duration.ms:2.000|ms",
        "storage.sql_index.bulk_delete_index.duration.ms:2.000|ms",
        "rpc.ongoing_requests.count",
        "storage.bulk_stat.duration.ms,instanceName=unnamed,method=Execute,serviceName=Execution,type=LRU:1.000|ms",
        "rpc.duration.ms",
        "rpc.input_bytes.count",
        "rpc.output_bytes.count",
    ];
    begin(&lines, &expected);
}

#[tokio::test]
async fn what_schedulers_do_has_buildgrids_names_tags_and_kinds() {
    let took = Duration::from_millis(20);
    let lines = published(|metrics, bus| {
        let scheduler = SchedulerMetrics::new(metrics, Some(bus.clone()));
        scheduler.assigned(Assigned { pool: "linux", instance: "", priority: 0, waited: took });
        let (label, instance) = ("linux", "main");
        for event in [
            SchedulerEvent::Stage { pool: "linux", instance, stage: "Fetch", took },
            SchedulerEvent::Claimed { took, failed: false },
            SchedulerEvent::Synchronized { took, failed: true },
            SchedulerEvent::Delivered { label, took },
            SchedulerEvent::SecondBest { label, instance },
            SchedulerEvent::Swept { kind: SweepKind::Prune, jobs: 3, took },
            SchedulerEvent::Swept { kind: SweepKind::QueueTimeout, jobs: 0, took },
            SchedulerEvent::Swept { kind: SweepKind::ExecutionTimeout, jobs: 1, took },
        ] {
            scheduler.event(event);
        }
        grid_telemetry::databases::sampled(bus, "pool", 2);
        let cleanup = CleanupMetrics::new(metrics, Some(bus.clone()));
        cleanup.deleted("index", took);
        cleanup.orphaned(5, Duration::from_secs(7_200));
    })
    .await;
    let expected = [
        "job.duration.ms,instanceName=unnamed,propertyLabel=linux,schedulerName=none,state=Queued:20.000|ms",
        "job.duration.ms,instanceName=main,propertyLabel=linux,schedulerName=none,state=Fetch:20.000|ms",
        "scheduler.assignment.duration.ms:20.000|ms",
        "scheduler.synchronize.duration.ms,exceptionType=Unavailable:20.000|ms",
        "scheduler.assignment-response.duration.ms,propertyLabel=linux:20.000|ms",
        "scheduler.preferred_match_miss.count,instanceName=main,propertyLabel=linux:1|c",
        "scheduler.prune.duration.ms:20.000|ms",
        "scheduler.prune.count:3|c",
        "scheduler.queue_timeout.duration.ms:20.000|ms",
        "scheduler.execution_timeout.duration.ms:20.000|ms",
        "scheduler.execution_timeout.count:1|c",
        "sql.active.session.gauge.pool:2|g",
        "cleanup.batch.duration.ms,instanceName=index:20.000|ms",
        "cleanup.janitor.blob_age.ms,objectAgeRange=60_TO_360,objectSizeRange=0_TO_2000:7200000|ms",
        "cleanup.janitor.blob_bytes.count,objectAgeRange=60_TO_360,objectSizeRange=0_TO_2000:5|ms",
    ];
    begin(&lines, &expected);
}

#[tokio::test]
async fn what_is_no_longer_counted_is_told_as_nothing() {
    let kind = Kind { instance: String::new(), label: "linux".into() };
    let bots = Bots { bots: 2, slots: 8, free: 5 };
    let quota = Quota { cohort: "c".into(), instance: "main".into(), min: 4, max: 9 };
    let counts = Counts {
        jobs: BTreeMap::from([(kind.clone(), Jobs { queued: 3, executing: 1 })]),
        bots: BTreeMap::from([((kind, BotStatus::Ok), bots)]),
        shares: vec![CohortShare { share: Share { quota, used: 6, evicted: 1 }, bots, others_beyond: 0 }],
        watchers: BTreeMap::from([("main".to_owned(), 2)]),
        served: BTreeMap::from([(String::new(), 2)]),
        ..Counts::default()
    };
    let lines = published(|metrics, bus| {
        let scheduler = SchedulerMetrics::new(metrics, Some(bus.clone()));
        scheduler.counted(&counts);
        scheduler.counted(&Counts::default());
        scheduler.counted(&Counts::default());
    })
    .await;
    let (told, gone) = lines.split_at(lines.len() / 2);
    let cohort = "instanceName=main,workerType=c";
    for expected in [
        "scheduler.jobs.count,instanceName=unnamed,propertyLabel=linux,state=QUEUED:3|g".to_owned(),
        "scheduler.jobs.count,instanceName=unnamed,propertyLabel=linux,state=EXECUTING:1|g".to_owned(),
        "scheduler.bots.count,instanceName=unnamed,propertyLabel=linux,state=OK:2|g".to_owned(),
        "scheduler.bots.count,instanceName=unnamed,propertyLabel=linux,state=UNHEALTHY:0|g".to_owned(),
        "scheduler.available_bot_capacity.count,instanceName=unnamed,propertyLabel=linux,state=OK:5|g"
            .to_owned(),
        "connections.clients.count,instanceName=main:2|g".to_owned(),
        "connections.workers.count,instanceName=unnamed:2|g".to_owned(),
        format!("scheduler.cohort.usage.count,{cohort}:6|g"),
        format!("scheduler.cohort.min_quota.count,{cohort}:4|g"),
        format!("scheduler.cohort.max_quota.count,{cohort}:9|g"),
        format!("scheduler.cohort.available_max_capacity.count,{cohort}:8|g"),
        format!("scheduler.cohort.available_capacity.count,{cohort}:5|g"),
        format!("scheduler.cohort.capacity_gap.count,{cohort}:0|g"),
        format!("scheduler.cohort.opportunistic_utilization.count,{cohort}:2|g"),
        format!("scheduler.recent_evictions.gauge,{cohort}:1|g"),
    ] {
        assert!(told.contains(&expected), "{expected} is not in {told:#?}");
        let (name, _) = expected.rsplit_once(':').unwrap();
        assert!(gone.contains(&format!("{name}:0|g")), "{name} is not in {gone:#?}");
    }
}
