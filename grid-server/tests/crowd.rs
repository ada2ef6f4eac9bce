//! Clients that do harm by what they leave undone: a thousand that read nothing, a thousand that wait, uploads that stop in
//! the middle, connections that say nothing, and rubbish. A good client is served all the same, and memory stays bounded.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use futures::stream;
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::bytestream::{ReadRequest, ReadResponse, WriteRequest};
use grid_proto::longrunning::Operation;
use grid_proto::reapi::ExecuteRequest;
use grid_proto::reapi::execution_client::ExecutionClient;
use support::{Server, digest};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// So many clients of each kind, over so many connections.
const CLIENTS: usize = 1_000;
const CONNECTIONS: usize = 10;
/// What each slow reader asks for; all of them together ask for 16 GiB.
const BLOB: usize = 16 << 20;
/// What the server may hold at most, whatever clients do.
const MEMORY: u64 = 2 << 30;

const GRID: &str = "
maximum-concurrent-rpcs: 3000
instances:
  - name: ''
    storages: [!disk-storage &cas {path: cas}]
    caches: [!lru-action-cache &results {storage: *cas, max-cached-refs: 100}]
    schedulers: [!sql-scheduler &queue {storage: *cas, action-cache: *results}]
    services: [!cas {storage: *cas}, !bytestream {storage: *cas}, !action-cache {cache: *results}, !execution {scheduler: *queue}]
";

async fn connect(server: &Server) -> Channel {
    let endpoint = Endpoint::from_shared(server.address().to_owned()).unwrap();
    // Windows as large as careless clients have them.
    let endpoint =
        endpoint.initial_stream_window_size(1 << 20).initial_connection_window_size(Some(256 << 20));
    endpoint.connect().await.unwrap()
}

async fn connections(server: &Server) -> Vec<Channel> {
    join_all((0..CONNECTIONS).map(|_| connect(server))).await
}

/// Streams of which nobody reads more than the first message.
async fn slow_readers(channels: &[Channel], content: &[u8]) -> Vec<Streaming<ReadResponse>> {
    let name = digest(content);
    let resource_name = format!("blobs/{}/{}", name.hash, name.size_bytes);
    let read = async |index: usize| {
        let request = ReadRequest { resource_name: resource_name.clone(), read_offset: 0, read_limit: 0 };
        let mut client = ByteStreamClient::new(channels[index % CONNECTIONS].clone());
        client.read(request).await.unwrap().into_inner()
    };
    join_all((0..CLIENTS).map(read)).await
}

async fn waiters(server: &Server, channels: &[Channel]) -> Vec<Streaming<Operation>> {
    let (action, _) = support::store_action(server.channel().await, &["never", "run"]).await;
    let execute = async |index: usize| {
        let mut client = ExecutionClient::new(channels[index % CONNECTIONS].clone());
        let request = ExecuteRequest { action_digest: Some(action.clone()), ..ExecuteRequest::default() };
        let mut stream = client.execute(request).await.unwrap().into_inner();
        assert!(!stream.message().await.unwrap().unwrap().done);
        stream
    };
    join_all((0..CLIENTS).map(execute)).await
}

/// Uploads of which a part comes, and then nothing more.
fn half_writers(channels: &[Channel]) -> Vec<tokio::task::JoinHandle<()>> {
    let write = |index: usize| {
        let mut client = ByteStreamClient::new(channels[index % CONNECTIONS].clone());
        let hash = format!("{index:064x}");
        let first = WriteRequest {
            resource_name: format!("uploads/{}/blobs/{hash}/{BLOB}", uuid(index)),
            data: Bytes::from(vec![1_u8; 64 << 10]),
            ..WriteRequest::default()
        };
        let messages = futures::StreamExt::chain(stream::iter([first]), stream::pending());
        tokio::spawn(async move { drop(client.write(messages).await) })
    };
    (0..CLIENTS / 10).map(write).collect()
}

fn uuid(index: usize) -> String {
    format!("2f1e1d5c-9b8a-4c7d-8e6f-{index:012}")
}

/// Connections that say nothing, or nothing that makes sense.
async fn rubbish(server: &Server) -> Vec<TcpStream> {
    let address = server.address().trim_start_matches("http://");
    let mut kept = Vec::new();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let headers_for_ever =
        [preface.clone(), [&[0, 0x40, 0, 1, 0, 0, 0, 0, 1][..], &[0x82; 0x4000]].concat()].concat();
    for said in
        [Vec::new(), b"GET / HTTP/1.1\r\n\r\n".to_vec(), preface, headers_for_ever, vec![0xff; 100_000]]
    {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // The server may have hung up by then.
            let _ = stream.write_all(&said).await;
            kept.push(stream);
        }
    }
    kept
}

/// How long the slowest of some honest work takes.
async fn honest_work(server: &Server, salt: u8) -> Duration {
    let channel = server.channel().await;
    let mut slowest = Duration::ZERO;
    for round in 0..20_u8 {
        let content = vec![round ^ salt; 100_000 + usize::from(salt)];
        let begun = Instant::now();
        support::store_blob(channel.clone(), content.clone()).await;
        assert!(support::has(channel.clone(), &content).await);
        slowest = slowest.max(begun.elapsed());
    }
    slowest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_does_nothing_harms_nobody() {
    let server = Server::start(GRID).await;
    let content = vec![7_u8; BLOB];
    let name = digest(&content);
    let upload = WriteRequest {
        resource_name: format!("uploads/{}/blobs/{}/{}", uuid(0), name.hash, name.size_bytes),
        ..WriteRequest::default()
    };
    let pieces: Vec<_> = content.chunks(1 << 20).map(Bytes::copy_from_slice).collect();
    let mut offset = 0;
    let messages: Vec<_> = pieces
        .into_iter()
        .map(|data| {
            let write_offset = offset;
            offset += i64::try_from(data.len()).unwrap();
            let finish_write = offset == name.size_bytes;
            WriteRequest { write_offset, finish_write, data, ..upload.clone() }
        })
        .collect();
    ByteStreamClient::new(server.channel().await).write(stream::iter(messages)).await.unwrap();
    let quiet = honest_work(&server, 0).await;
    let before = server.memory();

    let channels = connections(&server).await;
    let readers = slow_readers(&channels, &content).await;
    let waiting = waiters(&server, &connections(&server).await).await;
    let writers = half_writers(&connections(&server).await);
    let silent = rubbish(&server).await;
    let crowded = honest_work(&server, 1).await;
    let held = server.memory();
    println!(
        "slowest honest round: {quiet:?} alone, {crowded:?} in the crowd; memory: {} MiB, then {} MiB",
        before >> 20,
        held >> 20
    );
    assert!(held < MEMORY, "{} MiB are held for clients that do nothing", held >> 20);
    writers.iter().for_each(tokio::task::JoinHandle::abort);
    drop((readers, waiting, silent));
    assert!(honest_work(&server, 2).await > Duration::ZERO);
    server.stop().await;
}
