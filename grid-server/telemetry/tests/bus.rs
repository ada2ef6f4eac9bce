//! The bus to each of its targets, in each of its forms.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use grid_cache::observer::{CacheEvent, CacheObserver as _};
use grid_cas::observer::{StoreEvent, StoreObserver as _};
use grid_proto::buildgrid::bus_message::Record;
use grid_proto::buildgrid::{BusMessage, metric_record};
use grid_scheduler::service::Observer as _;
use grid_telemetry::Metrics;
use grid_telemetry::bus::{Bus, BusOptions, Format, Sample, TagFormat, Target, Value};
use grid_telemetry::caches::CacheMetrics;
use grid_telemetry::rpc::RpcMetrics;
use grid_telemetry::scheduler::SchedulerMetrics;
use grid_telemetry::stores::StoreMetrics;
use grid_telemetry::watched::{Watch as _, Watched as _};
use prost::Message as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::{UdpSocket, UnixListener};

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
    Sample { name: "cas.blobs.count", value: Value::Count(count), tags: vec![("type", "LRU".into())] }
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

#[tokio::test]
async fn protocol_buffers_by_a_socket_whose_listener_comes_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    let metrics = Metrics::default();
    let bus = Bus::start(options(Target::Socket(path.clone()), Format::Binary), &metrics);
    bus.send(sample(1));
    // Nobody listens: the sample is dropped, and counted.
    until(async || metrics.encode().contains("grid_monitoring_dropped_total 1").then_some(())).await;
    let listener = UnixListener::bind(&path).unwrap();
    bus.send(sample(2));
    let (mut stream, _) =
        tokio::time::timeout(Duration::from_secs(30), listener.accept()).await.unwrap().unwrap();
    let mut bytes = Vec::new();
    let message = until(async || {
        stream.read_buf(&mut bytes).await.unwrap();
        BusMessage::decode_length_delimited(&bytes[..]).ok()
    })
    .await;
    assert_eq!(message.sequence_number, 2);
    let Some(Record::MetricRecord(record)) = message.record else { panic!("{:?}", message.record) };
    assert_eq!(record.data, Some(metric_record::Data::Count(2.0)));
}

/// One call whose answer ends with `status`.
fn call(metrics: &Metrics, bus: &Bus, status: &'static str) {
    let calls = RpcMetrics::new(metrics, ["/a.b.Execution/Execute"], Some(bus.clone()));
    let mut request = http::Request::builder().uri("/a.b.Execution/Execute").body(()).unwrap();
    let mut call = calls.begin(&mut request).unwrap();
    call.sent(7);
    call.trailers(&http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]));
}

#[tokio::test]
async fn what_is_reported_has_buildgrids_names_tags_and_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics");
    let metrics = Metrics::default();
    let mut wanted = options(Target::File(path.clone()), Format::Statsd);
    (wanted.prefix, wanted.additional_tags) = (String::new(), BTreeMap::new());
    let bus = Bus::start(wanted, &metrics);
    call(&metrics, &bus, "5");
    let stores = StoreMetrics::new(&metrics, Some(bus.clone()));
    stores.event("lru", StoreEvent::Missing { asked: 4, missing: 1 });
    let caches = CacheMetrics::new(&metrics, Some(bus.clone()));
    [CacheEvent::Hit, CacheEvent::Incomplete].into_iter().for_each(|event| caches.event(event));
    let scheduler = SchedulerMetrics::new(&metrics, Some(bus));
    scheduler.assigned("linux", 0, Duration::from_millis(20));

    let expected = [
        "rpc.ongoing_requests.count,method=Execute,serviceName=Execution:1|ms",
        "rpc.duration.ms,method=Execute,serviceName=Execution,status=NOT_FOUND:",
        "rpc.output_bytes.count,method=Execute,serviceName=Execution,status=NOT_FOUND:7|c",
        "cas.blobs.count,type=LRU:4|ms",
        "cas.blobs_missing.count,type=LRU:1|ms",
        "cas.blobs_missing.percent,type=LRU:25|ms",
        "action_cache.invalid_cache.count:1|c",
        "job.duration.ms,propertyLabel=linux,state=Queued:20.000|ms",
    ];
    let lines = lines(&path, expected.len()).await;
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line} is not {expected}");
    }
}
