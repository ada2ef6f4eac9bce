//! What clients that leave their work undone cost in memory: a thousand that read a blob of 1 MiB and take no more than its
//! first message, and a thousand whose upload stops half-way.

use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::{StreamExt as _, stream};
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::bytestream::{ReadRequest, ReadResponse, WriteRequest};
use tokio::task::JoinSet;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::blobs::{noise, uuid};
use crate::loads::{Large, MIB, write};
use crate::servers::Server;

const CLIENTS: usize = 1_000;
const CONNECTIONS: usize = 20;
/// How many bytes come with one message of an upload.
const PIECE: usize = 64 << 10;
/// When memory that no longer grows has stopped growing.
const QUIET: Duration = Duration::from_secs(2);
/// For how long that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// By how much the server's memory grows for each of the two crowds, in MiB.
pub(crate) async fn measure(server: &Server) -> [u64; 2] {
    let blob = Large::new(1, MIB);
    write(server, &blob).await;
    let channels = join_all((0..CONNECTIONS).map(|_| server.connect())).await;
    let before = settled(server).await;
    let readers = join_all((0..CLIENTS).map(|at| reader(&channels[at % CONNECTIONS], &blob))).await;
    let reading = settled(server).await.saturating_sub(before);
    drop(readers);
    drop(channels);
    let before = settled(server).await;
    let channels = join_all((0..CONNECTIONS).map(|_| server.connect())).await;
    let mut uploads = JoinSet::new();
    for at in 0..CLIENTS {
        uploads.spawn(half_upload(channels[at % CONNECTIONS].clone(), at));
    }
    let uploading = settled(server).await.saturating_sub(before);
    [reading, uploading]
}

async fn reader(channel: &Channel, blob: &Large) -> Streaming<ReadResponse> {
    let ask = ReadRequest { resource_name: blob.name(), ..ReadRequest::default() };
    let mut client = ByteStreamClient::new(channel.clone()).max_decoding_message_size(2 * MIB);
    let mut content = client.read(ask).await.expect("an answer").into_inner();
    assert!(content.message().await.expect("a piece").is_some());
    content
}

async fn half_upload(channel: Channel, number: usize) {
    let data = noise(number as u64, PIECE);
    let name = format!("uploads/{}/blobs/{number:064x}/{MIB}", uuid());
    let message = move |at: usize| WriteRequest {
        resource_name: if at == 0 { name.clone() } else { String::new() },
        write_offset: i64::try_from(at * PIECE).expect("an offset"),
        data: data.clone(),
        ..WriteRequest::default()
    };
    let messages: Vec<_> = (0..MIB / PIECE / 2).map(message).collect();
    ByteStreamClient::new(channel).write(stream::iter(messages).chain(stream::pending())).await.ok();
}

/// The server's memory, in MiB, once it has stopped changing, or for a minute has not.
async fn settled(server: &Server) -> u64 {
    let (mut memory, mut since) = (server.memory(), Instant::now());
    let began = since;
    while since.elapsed() < QUIET && began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = server.memory();
        if now.abs_diff(memory) > 1 {
            (memory, since) = (now, Instant::now());
        }
    }
    memory
}
