//! Streams through Debian's nginx that say nothing for longer than nginx by itself lets them live.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use grid_proto::buildevents::publish_build_event_client::PublishBuildEventClient;
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::bytestream::{ReadRequest, WriteRequest};
use grid_proto::logstream::CreateLogStreamRequest;
use grid_proto::logstream::log_stream_service_client::LogStreamServiceClient;
use grid_proto::longrunning::CancelOperationRequest;
use grid_proto::longrunning::operations_client::OperationsClient;
use grid_proto::reapi::execution_client::ExecutionClient;
use grid_proto::reapi::{Digest, ExecuteRequest};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::resume::events;
use crate::actions;
use crate::environment;
use crate::local::Server;
use crate::process::Background;
use crate::remote::{Remote, digest};

/// Longer than any time after which nginx by itself ends something: they are 60 and 75 s.
const SILENCE: Duration = Duration::from_secs(80);
/// The pieces of the slow upload, and how long each is waited for.
const PIECES: usize = 40;
const PIECE: usize = 1 << 20;
const PAUSE: Duration = Duration::from_secs(2);

/// An Execute that nobody runs, an upload of 40 MiB at half a MiB a second, a build event stream and a log that is
/// followed, all at once and each longer than nginx by itself would let it live. Longer and larger ones meet no other limit:
/// with these settings nginx counts neither time nor bytes.
///
/// # Errors
/// Where one of them is cut.
pub(crate) fn streams() -> Result<()> {
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let server = Server::start(dir.path(), "bare.yml")?;
    let proxy = free_address()?;
    let _nginx = start(dir.path(), &proxy, server.address("x").trim_start_matches("x://"))?;
    let remote = Remote::plain(&proxy)?;
    let waiting = actions::store(&remote, "gcc12", "true")?;
    remote.runtime.block_on(async {
        let channel = &remote.channel;
        tokio::try_join!(idle(channel, waiting), slow_upload(channel), build_events(channel), log(channel))
    })?;
    println!("    an Execute, an upload, build events and a log outlived {} s of silence", SILENCE.as_secs());
    server.terminate()
}

fn free_address() -> Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn start(dir: &Path, proxy: &str, server: &str) -> Result<Background> {
    let template = environment::root().join("e2e/projects/nginx/nginx.conf");
    let text = std::fs::read_to_string(&template)?;
    let folder = dir.to_str().context("the cache's path is not UTF-8")?;
    let text = text.replace("FOLDER", folder).replace("PROXY", proxy).replace("SERVER", server);
    let path = dir.join("nginx.conf");
    std::fs::write(&path, text)?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-e").arg("stderr").arg("-c").arg(&path).arg("-p").arg(dir);
    Background::start("nginx", &mut command, &dir.join("nginx.log"))
}

/// Waits for an action that nobody runs, then cancels it: the stream tells of that.
async fn idle(channel: &Channel, action: Digest) -> Result<()> {
    let request = ExecuteRequest { action_digest: Some(action), ..ExecuteRequest::default() };
    let mut told = ExecutionClient::new(channel.clone()).execute(request).await?.into_inner();
    let name = told.message().await?.context("Execute said nothing")?.name;
    let cancel = async {
        sleep(SILENCE).await;
        OperationsClient::new(channel.clone()).cancel_operation(CancelOperationRequest { name }).await
    };
    let end = async {
        while let Some(operation) = told.message().await? {
            if operation.done {
                return Ok(());
            }
        }
        bail!("Execute ended before its action")
    };
    let (cancelled, ended) = tokio::join!(cancel, end);
    cancelled.context("the cancellation")?;
    ended.context("the Execute")
}

/// Uploads a blob, a piece now and then.
async fn slow_upload(channel: &Channel) -> Result<()> {
    let content: Bytes = (0..PIECES).flat_map(|n| vec![u8::try_from(n).unwrap_or(0); PIECE]).collect();
    let digest = digest(&content);
    let name =
        format!("uploads/0b7c1f1e-2f5d-4c33-9d1d-6f1f5b7d9a11/blobs/{}/{}", digest.hash, digest.size_bytes);
    let (pieces, receiver) = mpsc::channel(1);
    let mut client = ByteStreamClient::new(channel.clone());
    let sending = async {
        for number in 0..PIECES {
            let at = number * PIECE;
            let message = WriteRequest {
                resource_name: name.clone(),
                write_offset: i64::try_from(at)?,
                finish_write: number + 1 == PIECES,
                data: content.slice(at..at + PIECE),
            };
            pieces.send(message).await.context("the upload ended by itself")?;
            sleep(PAUSE).await;
        }
        anyhow::Ok(())
    };
    let (answer, sent) = tokio::join!(client.write(ReceiverStream::new(receiver)), sending);
    sent?;
    let stored = answer.context("the upload")?.into_inner().committed_size;
    ensure!(stored == digest.size_bytes, "{stored} bytes were stored");
    Ok(())
}

/// Publishes an event, nothing for long, and another.
async fn build_events(channel: &Channel) -> Result<()> {
    let (sender, receiver) = mpsc::channel(1);
    sender.send(events::event(1)).await?;
    let mut client = PublishBuildEventClient::new(channel.clone());
    let mut answers =
        client.publish_build_tool_event_stream(ReceiverStream::new(receiver)).await?.into_inner();
    for number in 1..=2 {
        let answer = answers.message().await?.context("the event stream ended by itself")?;
        ensure!(answer.sequence_number == number, "{number} was acknowledged as {answer:?}");
        if number == 1 {
            sleep(SILENCE).await;
            sender.send(events::event(2)).await?;
        }
    }
    Ok(())
}

/// Follows a log of which nothing comes for long.
async fn log(channel: &Channel) -> Result<()> {
    let request = CreateLogStreamRequest { parent: "nginx".to_owned() };
    let stream = LogStreamServiceClient::new(channel.clone()).create_log_stream(request).await?.into_inner();
    let (lines, receiver) = mpsc::channel(1);
    let line = |text: &'static str, write_offset, finish_write| WriteRequest {
        resource_name: stream.write_resource_name.clone(),
        write_offset,
        finish_write,
        data: Bytes::from_static(text.as_bytes()),
    };
    let writing = async {
        lines.send(line("first ", 0, false)).await?;
        sleep(SILENCE).await;
        lines.send(line("last", 6, true)).await?;
        anyhow::Ok(())
    };
    let mut writer = ByteStreamClient::new(channel.clone());
    let reading = async {
        let request = ReadRequest { resource_name: stream.name.clone(), ..ReadRequest::default() };
        let mut answers = ByteStreamClient::new(channel.clone()).read(request).await?.into_inner();
        let mut read = Vec::new();
        while let Some(answer) = answers.message().await? {
            read.extend_from_slice(&answer.data);
        }
        anyhow::Ok(read)
    };
    let (written, read, wrote) = tokio::join!(writing, reading, writer.write(ReceiverStream::new(receiver)));
    written?;
    wrote.context("the log's writer")?;
    ensure!(read.context("the log's reader")? == b"first last", "the reader was given something else");
    Ok(())
}
