//! A log stream whose writer and reader go on on another replica.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::bytestream::{QueryWriteStatusRequest, ReadRequest, WriteRequest};
use grid_proto::logstream::CreateLogStreamRequest;
use grid_proto::logstream::log_stream_service_client::LogStreamServiceClient;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::Replicas;
use crate::remote::{PATIENCE, PAUSE, Remote, was_cut};

const LINES: usize = 2_000;

/// Writes half of a log, which a reader follows; kills the replica that takes it; writes the rest.
///
/// # Errors
/// Where the reader is given something else than what was written.
pub(super) fn followed(remote: &Remote, replicas: &Replicas<'_>) -> Result<()> {
    let content: Bytes = (0..LINES).map(|n| format!("line {n} of the log\n")).collect::<String>().into();
    let half = content.len() / 2;
    let stream = remote.retried("CreateLogStream", async || {
        let request = CreateLogStreamRequest { parent: "resume".to_owned() };
        Ok(LogStreamServiceClient::new(remote.channel.clone()).create_log_stream(request).await?.into_inner())
    })?;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let reading = remote.runtime.spawn(follow(remote.channel.clone(), stream.name, Arc::clone(&seen)));

    let (messages, receiver) = mpsc::channel(4);
    let mut client = ByteStreamClient::new(remote.channel.clone());
    let writing = remote.runtime.spawn(async move { client.write(ReceiverStream::new(receiver)).await });
    let name = &stream.write_resource_name;
    remote.runtime.block_on(messages.send(message(name, &content, 0, half)))?;
    remote.until("the reader has half of the log", async || Ok(seen.lock().len()), |read| *read == half)?;
    replicas.kill_busy("cas", "Write")?;
    // Traefik tells of a cut only when it has something to pass on: what comes next, or the end.
    drop(messages);
    match remote.runtime.block_on(writing)? {
        Ok(answer) => bail!("the write was answered without its end: {answer:?}"),
        Err(status) => ensure!(was_cut(&status), "the write was refused: {status}"),
    }
    let start = remote.retried("QueryWriteStatus", async || committed(&remote.channel, name).await)?;
    let start = usize::try_from(start)?;
    ensure!(start == half, "{start} bytes of the log are committed; a reader has had {half}");
    remote.retried("Write", async || {
        let rest = tokio_stream::once(message(name, &content, start, content.len()));
        ByteStreamClient::new(remote.channel.clone()).write(rest).await.map(drop)
    })?;
    remote.runtime.block_on(reading)??;
    ensure!(*seen.lock() == content, "the reader was given something else than what was written");
    println!("    log stream: cut at {half}, goes on at {start}; its reader has all {} bytes", content.len());
    replicas.wait_for_both("cas")
}

/// Reads a log to its end, from where it was whenever it is cut.
async fn follow(channel: Channel, name: String, seen: Arc<Mutex<Vec<u8>>>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match read_on(&channel, &name, &seen).await {
            Ok(()) => return Ok(()),
            Err(status) if was_cut(&status) && Instant::now() < end => sleep(PAUSE).await,
            Err(status) => bail!("the reader: {status}"),
        }
    }
}

async fn read_on(channel: &Channel, name: &str, seen: &Mutex<Vec<u8>>) -> Result<(), Status> {
    let read_offset = i64::try_from(seen.lock().len()).unwrap_or(i64::MAX);
    let request = ReadRequest { resource_name: name.to_owned(), read_offset, read_limit: 0 };
    let mut answers = ByteStreamClient::new(channel.clone()).read(request).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        seen.lock().extend_from_slice(&answer.data);
    }
    Ok(())
}

async fn committed(channel: &Channel, name: &str) -> Result<i64, Status> {
    let request = QueryWriteStatusRequest { resource_name: name.to_owned() };
    let answer = ByteStreamClient::new(channel.clone()).query_write_status(request).await?;
    Ok(answer.into_inner().committed_size)
}

fn message(name: &str, content: &Bytes, from: usize, to: usize) -> WriteRequest {
    WriteRequest {
        resource_name: name.to_owned(),
        write_offset: i64::try_from(from).unwrap_or(i64::MAX),
        finish_write: to == content.len(),
        data: content.slice(from..to),
    }
}
