//! BuildGrid's bus of a whole server: whoever connects to its socket is told what calls, storages and the scheduler do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::time::Duration;

use grid_proto::reapi::ExecuteRequest;
use grid_proto::reapi::execution_client::ExecutionClient;
use support::{Server, store_action};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::UnixStream;

const CONFIG: &str = "
storages: [!lru-storage &cas {size: 10M}]
caches: [!lru-action-cache &cache {storage: *cas, max-cached-refs: 10}]
schedulers: [!sql-scheduler &queue {storage: *cas, action-cache: *cache}]
instances: [{name: '', services: [!cas {storage: *cas}, !bytestream {storage: *cas}, !execution {scheduler: *queue}]}]
monitoring: {endpoint-type: socket, endpoint-location: bus}
";

/// Reads on until a line has begun with each of these, in any order.
async fn hears(lines: &mut Lines<BufReader<UnixStream>>, expected: &[&str]) {
    let (mut missing, mut heard) = (expected.to_vec(), Vec::new());
    let all = async {
        while !missing.is_empty() {
            let line = lines.next_line().await.unwrap().unwrap();
            missing.retain(|expected| !line.starts_with(expected));
            heard.push(line);
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), all).await;
    assert!(in_time.is_ok(), "{missing:?} are not among {heard:#?}");
}

#[tokio::test]
async fn whoever_connects_to_the_socket_is_told() {
    let server = Server::start(CONFIG).await;
    let mut one = BufReader::new(UnixStream::connect(server.folder().join("bus")).await.unwrap()).lines();
    let mut other = BufReader::new(UnixStream::connect(server.folder().join("bus")).await.unwrap()).lines();

    let channel = server.channel().await;
    let (action, _) = store_action(channel.clone(), &["run"]).await;
    let request = ExecuteRequest { action_digest: Some(action), ..ExecuteRequest::default() };
    let mut stream = ExecutionClient::new(channel.clone()).execute(request).await.unwrap().into_inner();
    support::run_one_lease(channel, 0).await;
    while stream.message().await.unwrap().is_some() {}

    let expected = [
        "rpc.duration.ms,instanceName=unnamed,method=Execute,serviceName=Execution,status=OK:",
        "rpc.auth.duration.ms,instanceName=unnamed,method=Execute,serviceName=Execution,status=OK:",
        "rpc.input_bytes.count,instanceName=unnamed,method=BatchUpdateBlobs,serviceName=ContentAddressableStorage,status=OK:",
        "storage.read.duration.ms,instanceName=unnamed,method=Execute,serviceName=Execution,type=LRU:",
        "scheduler.synchronize.duration.ms,",
        "scheduler.assignment.duration.ms:",
        "job.duration.ms,instanceName=unnamed,schedulerName=none,state=Queued:",
    ];
    hears(&mut one, &expected).await;
    hears(&mut other, &expected).await;
    server.stop().await;
}
