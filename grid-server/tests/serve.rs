//! The binary as a user starts it: without a configuration, on free ports, with real clients.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::time::Duration;

use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::bytestream::{ReadRequest, WriteRequest};
use grid_proto::logstream::CreateLogStreamRequest;
use grid_proto::logstream::log_stream_service_client::LogStreamServiceClient;
use grid_proto::reapi::action_cache_client::ActionCacheClient;
use grid_proto::reapi::capabilities_client::CapabilitiesClient;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use grid_proto::reapi::{
    ActionResult, BatchUpdateBlobsRequest, FindMissingBlobsRequest, GetActionResultRequest,
    GetCapabilitiesRequest, UpdateActionResultRequest, batch_update_blobs_request,
};
use support::{Server, digest};

/// Zeroing them was half of the processor time of a write.
#[tokio::test]
async fn the_kernel_gives_it_no_huge_pages() {
    let server = Server::start("instances: [{name: main, services: [!logstream {}]}]").await;
    assert_eq!(server.status("THP_enabled:"), "0");
}

/// No storage, no scheduler, no database is named.
#[tokio::test]
async fn a_server_of_log_streams_alone_serves_them() {
    for services in
        ["!logstream {}", "!logstream {}, !bytestream {}", "!memory-logstream-storage {}, !bytestream {}"]
    {
        serves_log_streams(services).await;
    }
}

async fn serves_log_streams(services: &str) {
    let server = Server::start(&format!("instances: [{{name: main, services: [{services}]}}]")).await;
    let channel = server.channel().await;
    let create = CreateLogStreamRequest { parent: "main/build".to_owned() };
    let stream =
        LogStreamServiceClient::new(channel.clone()).create_log_stream(create).await.unwrap().into_inner();
    let mut bytes = ByteStreamClient::new(channel);
    let line = WriteRequest {
        resource_name: stream.write_resource_name,
        finish_write: true,
        data: "a line\n".into(),
        ..WriteRequest::default()
    };
    bytes.write(futures::stream::iter([line])).await.unwrap();
    let read = ReadRequest { resource_name: stream.name, ..ReadRequest::default() };
    let mut answers = bytes.read(read).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().data, "a line\n");
    let blob =
        ReadRequest { resource_name: format!("main/blobs/{}/1", "a".repeat(64)), ..ReadRequest::default() };
    assert_eq!(bytes.read(blob).await.unwrap_err().code(), tonic::Code::InvalidArgument, "it has no blobs");
    server.stop().await;
}

#[tokio::test]
async fn a_limit_of_blobs_is_told_and_held() {
    let server = Server::start(
        "
storages: [!lru-storage &cas {size: 10M}]
instances:
  - name: main
    services: [!cas {storage: *cas, max-blob-size: 2K}, !bytestream {storage: *cas, max-blob-size: 1K}]
",
    )
    .await;
    let channel = server.channel().await;
    let request = GetCapabilitiesRequest { instance_name: "main".into() };
    let told = CapabilitiesClient::new(channel.clone()).get_capabilities(request).await.unwrap().into_inner();
    assert_eq!(told.cache_capabilities.unwrap().max_cas_blob_size_bytes, 1 << 10);
    let mut bytes = ByteStreamClient::new(channel.clone());
    let mut cas = ContentAddressableStorageClient::new(channel);
    for (length, streams, batches) in [(1 << 10, true, true), (2 << 10, false, true), (3 << 10, false, false)]
    {
        let content = vec![7_u8; length];
        let name = digest(&content);
        let upload =
            format!("main/uploads/2f1e1d5c-9b8a-4c7d-8e6f-000000000002/blobs/{}/{length}", name.hash);
        let whole = WriteRequest {
            resource_name: upload,
            finish_write: true,
            data: content.clone().into(),
            ..WriteRequest::default()
        };
        assert_eq!(bytes.write(futures::stream::iter([whole])).await.is_ok(), streams, "{length}");
        let one = batch_update_blobs_request::Request {
            digest: Some(name),
            data: content.into(),
            ..batch_update_blobs_request::Request::default()
        };
        let batch = BatchUpdateBlobsRequest {
            instance_name: "main".into(),
            requests: vec![one],
            ..BatchUpdateBlobsRequest::default()
        };
        let answer = cas.batch_update_blobs(batch).await.unwrap().into_inner().responses.remove(0);
        assert_eq!(answer.status.unwrap_or_default().code == 0, batches, "{length}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_server_without_configuration_serves_a_whole_grid() {
    let server = Server::start("").await;
    let channel = server.channel().await;

    let request = GetCapabilitiesRequest { instance_name: String::new() };
    let capabilities =
        CapabilitiesClient::new(channel.clone()).get_capabilities(request).await.unwrap().into_inner();
    assert!(
        capabilities.cache_capabilities.unwrap().action_cache_update_capabilities.unwrap().update_enabled
    );
    assert!(capabilities.execution_capabilities.unwrap().exec_enabled);

    let content = vec![7_u8; 300_000];
    let name = digest(&content);
    let mut cas = ContentAddressableStorageClient::new(channel.clone());
    let ask =
        FindMissingBlobsRequest { blob_digests: vec![name.clone()], ..FindMissingBlobsRequest::default() };
    assert_eq!(
        cas.find_missing_blobs(ask.clone()).await.unwrap().into_inner().missing_blob_digests,
        std::slice::from_ref(&name)
    );
    upload(channel.clone(), &content).await;
    assert!(cas.find_missing_blobs(ask).await.unwrap().into_inner().missing_blob_digests.is_empty());
    assert_eq!(download(channel.clone(), &name).await, content);

    let mut cache = ActionCacheClient::new(channel);
    let action = digest(b"an action that nobody ran");
    let get =
        GetActionResultRequest { action_digest: Some(action.clone()), ..GetActionResultRequest::default() };
    assert_eq!(cache.get_action_result(get.clone()).await.unwrap_err().code(), tonic::Code::NotFound);
    let result = ActionResult { stdout_digest: Some(name), exit_code: 0, ..ActionResult::default() };
    let update = UpdateActionResultRequest {
        action_digest: Some(action),
        action_result: Some(result),
        ..UpdateActionResultRequest::default()
    };
    cache.update_action_result(update).await.unwrap();
    assert!(cache.get_action_result(get).await.unwrap().into_inner().stdout_digest.is_some());
    server.stop().await;
}

async fn upload(channel: support::Calls, content: &[u8]) {
    let name = digest(content);
    let resource_name =
        format!("uploads/2f1e1d5c-9b8a-4c7d-8e6f-000000000001/blobs/{}/{}", name.hash, name.size_bytes);
    let pieces: Vec<_> = content.chunks(64 << 10).map(bytes::Bytes::copy_from_slice).collect();
    let last = pieces.len() - 1;
    let mut offset = 0;
    let messages: Vec<_> = pieces
        .into_iter()
        .enumerate()
        .map(|(index, data)| {
            let write_offset = offset;
            offset += i64::try_from(data.len()).unwrap();
            WriteRequest {
                resource_name: resource_name.clone(),
                write_offset,
                finish_write: index == last,
                data,
            }
        })
        .collect();
    let answer = ByteStreamClient::new(channel).write(tokio_stream::iter(messages)).await.unwrap();
    assert_eq!(answer.into_inner().committed_size, name.size_bytes);
}

async fn download(channel: support::Calls, name: &grid_proto::reapi::Digest) -> Vec<u8> {
    let request = ReadRequest {
        resource_name: format!("blobs/{}/{}", name.hash, name.size_bytes),
        ..ReadRequest::default()
    };
    let mut stream = ByteStreamClient::new(channel).read(request).await.unwrap().into_inner();
    let mut content = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        content.extend_from_slice(&message.data);
    }
    content
}

#[tokio::test]
async fn health_metrics_and_readiness_are_shown_and_sigterm_ends_it_well() {
    let server = Server::start("").await;
    let health = tonic_health::pb::health_client::HealthClient::new(server.channel().await);
    let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
    let answer = health.clone().check(request).await.unwrap().into_inner();
    assert_eq!(answer.status, 1, "SERVING");

    assert_eq!(server.get("/healthz").await, (200, "alive\n".to_owned()));
    assert_eq!(server.get("/readyz").await, (200, "ready\n".to_owned()));
    let (_, metrics) = server.get("/metrics").await;
    let counted = r#"grid_rpc_handled_total{grpc_service="grpc.health.v1.Health",grpc_method="Check",grpc_code="OK",grid_instance=""} 1"#;
    for part in [counted, "grid_process_resident_memory_bytes", "grid_dependency_up{"] {
        assert!(metrics.contains(part), "{part} is not in\n{metrics}");
    }
    server.stop().await;
}

#[tokio::test]
async fn reflection_describes_the_services() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let server = Server::start("").await;
    let list = MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut client = ServerReflectionClient::new(server.channel().await);
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.iter().any(|name| name == "build.bazel.remote.execution.v2.Execution"), "{names:?}");
    drop(answers);
    server.stop().await;
}

#[tokio::test]
async fn two_instances_that_share_an_anchor_share_their_blobs_and_others_do_not() {
    let config = "
instances:
  - name: one
    storages: [!lru-storage &shared {size: 10M}]
    services: [!cas {storage: *shared}, !bytestream {storage: *shared}]
  - name: [two, three]
    services: [!cas {storage: *shared}, !bytestream {storage: *shared}]
  - name: apart
    storages: [!lru-storage &own {size: 10M}]
    services: [!cas {storage: *own}, !bytestream {storage: *own}]
";
    let server = Server::start(config).await;
    let mut cas = ContentAddressableStorageClient::new(server.channel().await);
    let content = bytes::Bytes::from_static(b"shared by an anchor");
    let blob = batch_update_blobs_request::Request {
        digest: Some(digest(&content)),
        data: content.clone(),
        ..Default::default()
    };
    let update = BatchUpdateBlobsRequest {
        instance_name: "one".to_owned(),
        requests: vec![blob],
        ..Default::default()
    };
    cas.batch_update_blobs(update).await.unwrap();
    for (instance, missing) in [("one", 0), ("two", 0), ("three", 0), ("apart", 1)] {
        let ask = FindMissingBlobsRequest {
            instance_name: instance.to_owned(),
            blob_digests: vec![digest(&content)],
            ..FindMissingBlobsRequest::default()
        };
        let answer = cas.find_missing_blobs(ask).await.unwrap().into_inner();
        assert_eq!(answer.missing_blob_digests.len(), missing, "{instance}");
    }
    let unknown =
        FindMissingBlobsRequest { instance_name: "four".to_owned(), ..FindMissingBlobsRequest::default() };
    assert_eq!(cas.find_missing_blobs(unknown).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn mutual_tls_takes_clients_of_the_authority_only() {
    let certificates = support::Certificates::make();
    let config = format!(
        "
instances:
  - name: ''
    storages: [!lru-storage &cas {{size: 10M}}]
    services: [!cas {{storage: *cas}}, !bytestream {{storage: *cas}}]
tls: {}
",
        certificates.folder.path().display()
    );
    let server = Server::start_tls(&config.replace("tls:", "# tls:"), &certificates).await;
    let mut cas =
        ContentAddressableStorageClient::new(server.tls_channel(&certificates, true).await.unwrap());
    assert!(cas.find_missing_blobs(FindMissingBlobsRequest::default()).await.is_ok());
    let refused = match server.tls_channel(&certificates, false).await {
        Ok(channel) => {
            let mut cas = ContentAddressableStorageClient::new(channel);
            cas.find_missing_blobs(FindMissingBlobsRequest::default()).await.is_err()
        }
        Err(_) => true,
    };
    assert!(refused, "a client without a certificate was taken");
    server.stop().await;
}

#[tokio::test]
async fn an_execution_waits_for_a_bot_and_ends_with_its_result() {
    let server = Server::start("").await;
    let channel = server.channel().await;
    let (action, _) = support::store_action(channel.clone(), &["true"]).await;
    let execute = grid_proto::reapi::ExecuteRequest {
        action_digest: Some(action),
        skip_cache_lookup: true,
        ..grid_proto::reapi::ExecuteRequest::default()
    };
    let mut client = grid_proto::reapi::execution_client::ExecutionClient::new(channel.clone());
    let mut stream = client.execute(execute).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert!(!first.done);
    support::run_one_lease(channel, 42).await;
    let last = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let operation = stream.message().await.unwrap().unwrap();
            if operation.done {
                return operation;
            }
        }
    });
    assert_eq!(support::exit_code(&last.await.unwrap()), 42);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_waits_is_handed_over_when_the_server_ends() {
    let server = Server::start("").await;
    let channel = server.channel().await;
    let (action, _) = support::store_action(channel.clone(), &["never", "run"]).await;
    let execute = grid_proto::reapi::ExecuteRequest { action_digest: Some(action), ..Default::default() };
    let mut client = grid_proto::reapi::execution_client::ExecutionClient::new(channel);
    let mut stream = client.execute(execute).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let stopping = tokio::spawn(server.stop());
    let status = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended as if all were said"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
    stopping.await.unwrap();
}
