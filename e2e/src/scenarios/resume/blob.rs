//! An upload of 64 MiB that goes on on another replica.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::bytestream::{QueryWriteStatusRequest, ReadRequest, WriteRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::Replicas;
use crate::remote::{Remote, digest, was_cut};

const SIZE: usize = 64 << 20;
const PIECE: usize = 1 << 20;
/// Where the upload is cut: within a part.
const CUT: usize = 42 << 20;
/// What the server keeps at a time: what is sent twice at most.
const PART: usize = 4 << 20;

/// Uploads most of a blob, kills the replica that takes it, and sends the rest.
///
/// # Errors
/// Where more than a part is lost, or what is stored is something else.
pub(super) fn upload(remote: &Remote, replicas: &Replicas<'_>) -> Result<()> {
    let content = noise();
    let digest = digest(&content);
    let blob = format!("blobs/{}/{}", digest.hash, digest.size_bytes);
    let name = format!("uploads/0b7c1f1e-2f5d-4c33-9d1d-6f1f5b7d9a10/{blob}");
    let (pieces, receiver) = mpsc::channel(4);
    let mut client = ByteStreamClient::new(remote.channel.clone());
    let writing = remote.runtime.spawn(async move { client.write(ReceiverStream::new(receiver)).await });
    remote.runtime.block_on(async {
        for piece in messages(&name, &content, 0, CUT) {
            pieces.send(piece).await.context("the upload ended by itself")?;
        }
        anyhow::Ok(())
    })?;
    let kept = i64::try_from(CUT / PART * PART)?;
    remote.until("the parts are kept", async || committed(&remote.channel, &name).await, |at| *at == kept)?;
    replicas.kill_busy("cas", "Write")?;
    // Traefik tells of a cut only when it has something to pass on: what comes next, or the end.
    drop(pieces);
    match remote.runtime.block_on(writing)? {
        Ok(answer) => anyhow::bail!("the upload was answered without its end: {answer:?}"),
        Err(status) => ensure!(was_cut(&status), "the upload was refused: {status}"),
    }
    let start = remote.retried("QueryWriteStatus", async || committed(&remote.channel, &name).await)?;
    let start = usize::try_from(start)?;
    let twice = CUT.checked_sub(start).context("more is committed than was sent")?;
    println!("    upload: cut at {CUT}, goes on at {start}: {twice} bytes are sent twice");
    ensure!(twice <= PART, "{twice} bytes must be sent twice, a part is {PART}");
    let stored = remote.retried("Write", async || {
        // An attempt that nobody took leaves what is committed where it was.
        let rest = tokio_stream::iter(messages(&name, &content, start, SIZE).collect::<Vec<_>>());
        let answer = ByteStreamClient::new(remote.channel.clone()).write(rest).await?;
        Ok(answer.into_inner().committed_size)
    })?;
    ensure!(stored == digest.size_bytes, "{stored} bytes were stored of {SIZE}");
    let read = remote.retried("Read", async || read(&remote.channel, &blob).await)?;
    ensure!(read == content, "what was stored is not what was sent");
    replicas.wait_for_both("cas")
}

async fn committed(channel: &Channel, name: &str) -> Result<i64, Status> {
    let request = QueryWriteStatusRequest { resource_name: name.to_owned() };
    let answer = ByteStreamClient::new(channel.clone()).query_write_status(request).await?;
    Ok(answer.into_inner().committed_size)
}

async fn read(channel: &Channel, name: &str) -> Result<Vec<u8>, Status> {
    let request = ReadRequest { resource_name: name.to_owned(), ..Default::default() };
    let mut answers = ByteStreamClient::new(channel.clone()).read(request).await?.into_inner();
    let mut content = Vec::with_capacity(SIZE);
    while let Some(answer) = answers.message().await? {
        content.extend_from_slice(&answer.data);
    }
    Ok(content)
}

/// The messages of an upload from one offset to another; at the blob's end it is finished.
fn messages(name: &str, content: &Bytes, from: usize, to: usize) -> impl Iterator<Item = WriteRequest> {
    (from..to).step_by(PIECE).map(move |at| {
        let end = to.min(at + PIECE);
        WriteRequest {
            resource_name: name.to_owned(),
            write_offset: i64::try_from(at).unwrap_or(i64::MAX),
            finish_write: end == content.len(),
            data: content.slice(at..end),
        }
    })
}

/// Bytes that no compression makes fewer, the same in every run.
fn noise() -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(SIZE / 8).flatten().collect()
}
