//! A grid of several servers: what one says for all of them, and what it does while another is away.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::collections::HashMap;
use std::time::Duration;

use grid_proto::reapi::action_cache_client::ActionCacheClient;
use grid_proto::reapi::capabilities_client::CapabilitiesClient;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use grid_proto::reapi::execution_client::ExecutionClient;
use grid_proto::reapi::{
    ActionResult, ExecuteRequest, FindMissingBlobsRequest, GetActionResultRequest, GetCapabilitiesRequest,
    ServerCapabilities, UpdateActionResultRequest,
};
use support::{Server, digest};
use tonic::{Code, Request};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Blobs and results that survive a restart.
const BACK: &str = "
instances:
  - name: ''
    storages: [!disk-storage &cas {path: cas}]
    caches: [!lru-action-cache &results {storage: *cas, max-cached-refs: 100, allow-updates: UPDATES}]
    services: [!cas {storage: *cas}, !bytestream {storage: *cas}, !action-cache {cache: *results}]
";

fn back(updates: bool) -> String {
    BACK.replace("UPDATES", if updates { "yes" } else { "no" })
}

/// Execution over what is behind it.
fn execution(url: &str) -> String {
    format!(
        "
instances:
  - name: ''
    storages: [!remote-storage &cas {{url: '{url}', instance-name: ''}}]
    caches: [!remote-action-cache &results {{url: '{url}', instance-name: ''}}]
    schedulers: [!sql-scheduler &queue {{storage: *cas, action-cache: *results}}]
    services: [!execution {{scheduler: *queue}}]
"
    )
}

/// Everything that passes calls on.
fn front(url: &str) -> String {
    execution(url).replace(
        "[!execution {scheduler: *queue}]",
        "[!execution {scheduler: *queue}, !cas {storage: *cas}, !bytestream {storage: *cas}, !action-cache {cache: *results}]",
    )
}

async fn capabilities(server: &Server) -> ServerCapabilities {
    let request = GetCapabilitiesRequest { instance_name: String::new() };
    CapabilitiesClient::new(server.channel().await).get_capabilities(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_server_that_executes_tells_what_the_servers_behind_it_can() {
    for updates in [true, false] {
        let back = Server::start(&back(updates)).await;
        let (alone, front) =
            (Server::start(&execution(back.address())).await, Server::start(&front(back.address())).await);
        let behind = capabilities(&back).await;
        assert!(behind.execution_capabilities.is_none());
        for server in [alone, front] {
            let answer = capabilities(&server).await;
            assert_eq!(answer.cache_capabilities, behind.cache_capabilities);
            let update = answer.cache_capabilities.unwrap().action_cache_update_capabilities.unwrap();
            assert_eq!(update.update_enabled, updates);
            assert!(answer.execution_capabilities.unwrap().exec_enabled);
            server.stop().await;
        }
        back.stop().await;
    }
}

#[tokio::test]
async fn an_action_runs_through_a_server_that_only_executes() {
    let back = Server::start(&back(true)).await;
    let server = Server::start(&execution(back.address())).await;
    let (action, _) = support::store_action(back.channel().await, &["true"]).await;
    let execute = ExecuteRequest { action_digest: Some(action.clone()), ..ExecuteRequest::default() };
    let channel = server.channel().await;
    let (done, ()) = tokio::join!(run(channel.clone(), execute), support::run_one_lease(channel.clone(), 0));
    assert_eq!(support::exit_code(&done), 0);
    // The scheduler wrote the result to the server behind.
    let get = GetActionResultRequest { action_digest: Some(action), ..GetActionResultRequest::default() };
    assert!(ActionCacheClient::new(back.channel().await).get_action_result(get).await.is_ok());
    let mut blobs = ContentAddressableStorageClient::new(channel);
    let asked = blobs.find_missing_blobs(FindMissingBlobsRequest::default()).await;
    assert_eq!(asked.unwrap_err().code(), Code::Unimplemented, "blobs are served by the other one");
    server.stop().await;
    back.stop().await;
}

/// The way in asks one server for the health of all.
#[tokio::test]
async fn a_server_tells_the_health_of_those_beside_it() {
    const CAS: &str = "build.bazel.remote.execution.v2.ContentAddressableStorage";
    const BYTES: &str = "google.bytestream.ByteStream";
    const OTHER: &str = "build.bazel.remote.asset.v1.Fetch";
    let back = Server::start(&back(true)).await;
    let beside = format!(
        "health-of: [{{url: '{}', services: [{CAS}, {BYTES}, {OTHER}]}}]\n{}",
        back.address(),
        execution(back.address())
    );
    let server = Server::start(&beside).await;
    let mut health = HealthClient::new(server.channel().await);
    let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let mut watched = HashMap::new();
    for service in [CAS, BYTES] {
        let mut answers = health.watch(ask(service)).await.unwrap().into_inner();
        until(&mut answers, ServingStatus::Serving).await;
        watched.insert(service, answers);
    }
    let absent = health.check(ask(OTHER)).await.unwrap().into_inner();
    assert_eq!(absent.status(), ServingStatus::NotServing, "nobody has it");
    let unknown = health.check(ask("build.bazel.remote.asset.v1.Push")).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound, "nobody was named for it");
    back.stop().await;
    for mut answers in watched.into_values() {
        until(&mut answers, ServingStatus::NotServing).await;
    }
    server.stop().await;
}

/// Waits until a service's health is told to be this.
async fn until(answers: &mut tonic::Streaming<HealthCheckResponse>, status: ServingStatus) {
    while answers.message().await.unwrap().unwrap().status() != status {}
}

async fn run(channel: support::Calls, execute: ExecuteRequest) -> grid_proto::longrunning::Operation {
    let mut stream = ExecutionClient::new(channel).execute(execute).await.unwrap().into_inner();
    loop {
        let operation = stream.message().await.unwrap().unwrap();
        if operation.done {
            return operation;
        }
    }
}

/// Waits until so many calls of our making are held by the server.
async fn until_held(server: &Server, calls: usize) {
    let held = async {
        loop {
            let (_, metrics) = server.get("/metrics").await;
            let counts = metrics.lines().filter_map(|line| line.strip_prefix("grid_rpc_in_flight{"));
            let held: usize =
                counts.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum();
            if held >= calls {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), held).await.unwrap();
}

#[tokio::test]
async fn calls_wait_for_a_server_that_restarts_and_none_fails() {
    let behind = Server::start(&back(true)).await;
    let front = Server::start(&front(behind.address())).await;
    let channel = front.channel().await;
    let (action, _) = support::store_action(channel.clone(), &["true"]).await;
    let killed = behind.kill().await;

    let late = b"written while the storage is away".to_vec();
    let calls = tokio::spawn({
        let (channel, action, late) = (channel.clone(), action.clone(), late.clone());
        async move {
            let mut cas = ContentAddressableStorageClient::new(channel.clone());
            let ask = FindMissingBlobsRequest {
                blob_digests: vec![action.clone(), digest(b"never stored")],
                ..FindMissingBlobsRequest::default()
            };
            let mut results = ActionCacheClient::new(channel.clone());
            let update = UpdateActionResultRequest {
                action_digest: Some(digest(b"some action")),
                action_result: Some(ActionResult { exit_code: 7, ..ActionResult::default() }),
                ..UpdateActionResultRequest::default()
            };
            let execute = ExecuteRequest { action_digest: Some(action), ..ExecuteRequest::default() };
            tokio::join!(
                async { cas.find_missing_blobs(ask).await.unwrap().into_inner().missing_blob_digests },
                support::store_blob(channel.clone(), late),
                async { results.update_action_result(update).await.unwrap() },
                run(channel.clone(), execute),
                support::run_one_lease(channel.clone(), 3),
            )
        }
    });
    // A client with less time than we have is told when its own is over.
    let mut impatient = Request::new(FindMissingBlobsRequest {
        blob_digests: vec![digest(b"x")],
        ..FindMissingBlobsRequest::default()
    });
    impatient.set_timeout(Duration::from_millis(300));
    let refused = ContentAddressableStorageClient::new(channel.clone()).find_missing_blobs(impatient).await;
    assert!(matches!(refused.unwrap_err().code(), Code::DeadlineExceeded | Code::Cancelled));
    until_held(&front, 5).await;
    assert!(!calls.is_finished());

    let behind = killed.restart(&back(true)).await;
    let (missing, (), _, done, ()) =
        tokio::time::timeout(Duration::from_secs(60), calls).await.unwrap().unwrap();
    assert_eq!(missing, [digest(b"never stored")]);
    assert_eq!(support::exit_code(&done), 3);
    assert!(support::has(behind.channel().await, &late).await);
    front.stop().await;
    behind.stop().await;
}
