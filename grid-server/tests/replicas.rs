//! What goes on on another server, and what is there after a restart.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use futures::StreamExt as _;
use grid_proto::any::unpack;
use grid_proto::asset::fetch_client::FetchClient;
use grid_proto::asset::push_client::PushClient;
use grid_proto::asset::{FetchBlobRequest, PushBlobRequest};
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::bytestream::{QueryWriteStatusRequest, ReadRequest, WriteRequest};
use grid_proto::reapi::execution_client::ExecutionClient;
use grid_proto::reapi::{ExecuteOperationMetadata, ExecuteRequest};
use grid_scheduler_sql::testing::postgres_url;
use support::{Server, digest, run_one_lease, store_action};

/// The size of what is kept of an upload at once: a client sends no more than this again.
const PART: usize = 4 << 20;

fn messages(name: &str, content: &[u8], start: usize) -> Vec<WriteRequest> {
    let pieces = content[start..].chunks(1 << 20).enumerate();
    let message = |(index, piece): (usize, &[u8])| {
        let offset = start + index * (1 << 20);
        WriteRequest {
            resource_name: name.to_owned(),
            write_offset: i64::try_from(offset).unwrap(),
            finish_write: offset + piece.len() == content.len(),
            data: bytes::Bytes::copy_from_slice(piece),
        }
    };
    pieces.map(message).collect()
}

async fn committed(channel: support::Calls, name: &str) -> usize {
    let request = QueryWriteStatusRequest { resource_name: name.to_owned() };
    let answer = ByteStreamClient::new(channel).query_write_status(request).await.unwrap().into_inner();
    usize::try_from(answer.committed_size).unwrap()
}

#[tokio::test]
async fn an_upload_goes_on_on_another_server_when_the_first_is_killed() {
    let blobs = Server::start(
        "
instances:
  - name: ''
    storages: [!lru-storage &cas {size: 1G}]
    services: [!cas {storage: *cas}, !bytestream {storage: *cas}]
",
    )
    .await;
    let front = format!(
        "
connections: [!sql-connection &database {{connection-string: '{}', automigrate: yes}}]
instances:
  - name: ''
    storages: [!remote-storage &cas {{url: '{}', instance-name: ''}}]
    services: [!cas {{storage: *cas}}, !bytestream {{storage: *cas, sql: *database}}]
",
        postgres_url(),
        blobs.address()
    );
    let (first, second) = (Server::start(&front).await, Server::start(&front).await);
    let content: Vec<u8> =
        (0_u32..16 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let blob = digest(&content);
    let name =
        format!("uploads/8a1f8bb5-5dfb-4d55-8d1c-7a3d6f7e0001/blobs/{}/{}", blob.hash, blob.size_bytes);

    let sent = 41 << 20;
    let some = messages(&name, &content, 0).into_iter().take(sent >> 20);
    let mut client = ByteStreamClient::new(first.channel().await);
    let writing = tokio::spawn(async move {
        client.write(futures::stream::iter(some).chain(futures::stream::pending())).await
    });
    let other = second.channel().await;
    while committed(other.clone(), &name).await < sent - sent % PART {
        tokio::task::yield_now().await;
    }
    drop(first.kill().await);
    assert!(writing.await.unwrap().is_err(), "the upload was cut");

    let start = committed(other.clone(), &name).await;
    assert!(sent - start <= PART && start < content.len(), "{start} of {sent} bytes were kept");
    let rest = messages(&name, &content, start);
    let answer = ByteStreamClient::new(other.clone()).write(futures::stream::iter(rest)).await.unwrap();
    assert_eq!(answer.into_inner().committed_size, blob.size_bytes);
    assert!(support::has(blobs.channel().await, &content).await);
    second.stop().await;
    blobs.stop().await;
}

#[tokio::test]
async fn artifacts_are_there_after_a_restart() {
    // The older tag of BuildGrid's artifact servers.
    let config = "
instances:
  - name: ''
    storages: [!disk-storage &cas {path: artifacts}]
    services: [!reference-cache {storage: *cas, max-cached-refs: 1000}, !cas {storage: *cas}, !bytestream {storage: *cas}]
";
    let server = Server::start(config).await;
    support::store_blob(server.channel().await, b"an artifact".to_vec()).await;
    let push = PushBlobRequest {
        uris: vec!["urn:fdc:buildstream.build:2020:artifact:test".to_owned()],
        blob_digest: Some(digest(b"an artifact")),
        ..PushBlobRequest::default()
    };
    PushClient::new(server.channel().await).push_blob(push).await.unwrap();
    let server = server.kill().await.restart(config).await;
    let fetch = |uri: &str| FetchBlobRequest { uris: vec![uri.to_owned()], ..FetchBlobRequest::default() };
    let mut client = FetchClient::new(server.channel().await);
    let found = client.fetch_blob(fetch("urn:fdc:buildstream.build:2020:artifact:test")).await.unwrap();
    assert_eq!(found.into_inner().blob_digest, Some(digest(b"an artifact")));
    // It was never more than a record of what was pushed.
    let answer = client.fetch_blob(fetch("https://example.org/x")).await.unwrap().into_inner();
    assert_eq!(answer.status.unwrap().code, tonic::Code::NotFound as i32);
    server.stop().await;
}

#[tokio::test]
async fn log_streams_of_leases_are_made_at_another_server() {
    let logs = Server::start("instances: [{name: '', services: [!logstream {}, !bytestream {}]}]").await;
    let grid = format!(
        "
instances:
  - name: ''
    storages: [!lru-storage &cas {{size: 1M}}]
    schedulers: [!sql-scheduler &queue {{storage: *cas, logstream: {{url: '{}'}}}}]
    services: [!cas {{storage: *cas}}, !bytestream {{storage: *cas}}, !execution {{scheduler: *queue}}]
",
        logs.address()
    );
    let grid = Server::start(&grid).await;
    let channel = grid.channel().await;
    let (digest, _) = store_action(channel.clone(), &["true"]).await;
    let request = ExecuteRequest { action_digest: Some(digest), ..ExecuteRequest::default() };
    let mut told = ExecutionClient::new(channel.clone()).execute(request).await.unwrap().into_inner();
    run_one_lease(channel, 0).await;
    let mut name = String::new();
    while let Some(operation) = told.message().await.unwrap() {
        let metadata: ExecuteOperationMetadata = unpack(operation.metadata.as_ref().unwrap()).unwrap();
        name = metadata.stdout_stream_name;
    }
    let request = ReadRequest { resource_name: name, ..ReadRequest::default() };
    let mut read = ByteStreamClient::new(logs.channel().await).read(request).await.unwrap().into_inner();
    assert!(read.message().await.unwrap().is_none(), "it ends with the lease");
}
