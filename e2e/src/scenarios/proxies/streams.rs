//! What goes through a proxy for long: an Execute, an upload, build events and a log.

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
use sha2::Digest as _;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::remote::Remote;
use crate::scenarios::resume::events;

/// How large a piece of the upload is.
const PIECE: usize = 1 << 20;

/// For how long streams say nothing, and how large the upload is that takes as long.
#[derive(Clone, Copy)]
pub(super) struct Lengths {
    silence: Duration,
    pieces: u32,
}

impl Lengths {
    /// A quarter of an hour and 4 GiB, unless `GRID_SILENCE_SECONDS` and `GRID_SLOW_MIB` say otherwise.
    ///
    /// # Errors
    /// Where one of them is no number.
    pub(super) fn of_environment() -> Result<Self> {
        let number = |name: &str, default: u32| match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name}={text} is no whole number")),
            Err(_) => Ok(default),
        };
        let silence = Duration::from_secs(number("GRID_SILENCE_SECONDS", 900)?.into());
        Ok(Self { silence, pieces: number("GRID_SLOW_MIB", 4_096)? })
    }

    /// Has all of them at once through `remote`.
    ///
    /// # Errors
    /// Where one of them is cut.
    pub(super) fn outlive(self, remote: &Remote, action: Digest) -> Result<()> {
        let channel = &remote.channel;
        remote.runtime.block_on(async {
            tokio::try_join!(
                self.idle(channel, action),
                self.slow_upload(channel),
                self.build_events(channel),
                self.log(channel)
            )
        })?;
        println!(
            "    an Execute, an upload of {} MiB, build events and a log outlived {} s",
            self.pieces,
            self.silence.as_secs()
        );
        Ok(())
    }

    /// Waits for an action that nobody runs, then cancels it: the stream tells of that.
    async fn idle(self, channel: &Channel, action: Digest) -> Result<()> {
        let request = ExecuteRequest { action_digest: Some(action), ..ExecuteRequest::default() };
        let mut told = ExecutionClient::new(channel.clone()).execute(request).await?.into_inner();
        let name = told.message().await?.context("Execute said nothing")?.name;
        let cancel = async {
            sleep(self.silence).await;
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
    async fn slow_upload(self, channel: &Channel) -> Result<()> {
        let digest = self.digest();
        let name = format!(
            "uploads/0b7c1f1e-2f5d-4c33-9d1d-6f1f5b7d9a11/blobs/{}/{}",
            digest.hash, digest.size_bytes
        );
        let (pieces, receiver) = mpsc::channel(1);
        let mut client = ByteStreamClient::new(channel.clone());
        // It ends what it sends, as clients do: Traefik passes the answer on only then.
        let sending = async move {
            for number in 0..self.pieces {
                let message = WriteRequest {
                    resource_name: name.clone(),
                    write_offset: i64::from(number) * i64::try_from(PIECE)?,
                    finish_write: number + 1 == self.pieces,
                    data: piece(number),
                };
                pieces.send(message).await.context("the upload ended by itself")?;
                sleep(self.silence / self.pieces).await;
            }
            anyhow::Ok(())
        };
        let (answer, sent) = tokio::join!(client.write(ReceiverStream::new(receiver)), sending);
        let stored = answer.context("the upload")?.into_inner().committed_size;
        sent?;
        ensure!(stored == digest.size_bytes, "{stored} bytes were stored");
        Ok(())
    }

    /// The digest of all pieces, which nobody holds at once.
    fn digest(self) -> Digest {
        let mut hasher = sha2::Sha256::new();
        for number in 0..self.pieces {
            hasher.update(piece(number));
        }
        let size_bytes = i64::from(self.pieces) << 20;
        Digest { hash: hex::encode(hasher.finalize()), size_bytes }
    }

    /// Publishes an event, nothing for long, and another.
    async fn build_events(self, channel: &Channel) -> Result<()> {
        let (sender, receiver) = mpsc::channel(1);
        sender.send(events::event(1)).await?;
        let mut client = PublishBuildEventClient::new(channel.clone());
        let mut answers =
            client.publish_build_tool_event_stream(ReceiverStream::new(receiver)).await?.into_inner();
        for number in 1..=2 {
            let answer = answers.message().await?.context("the event stream ended by itself")?;
            ensure!(answer.sequence_number == number, "{number} was acknowledged as {answer:?}");
            if number == 1 {
                sleep(self.silence).await;
                sender.send(events::event(2)).await?;
            }
        }
        Ok(())
    }

    /// Follows a log of which nothing comes for long.
    async fn log(self, channel: &Channel) -> Result<()> {
        let request = CreateLogStreamRequest { parent: "nginx".to_owned() };
        let stream =
            LogStreamServiceClient::new(channel.clone()).create_log_stream(request).await?.into_inner();
        let (lines, receiver) = mpsc::channel(1);
        let line = |text: &'static str, write_offset, finish_write| WriteRequest {
            resource_name: stream.write_resource_name.clone(),
            write_offset,
            finish_write,
            data: Bytes::from_static(text.as_bytes()),
        };
        let writing = async move {
            lines.send(line("first ", 0, false)).await?;
            sleep(self.silence).await;
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
        let (written, read, wrote) =
            tokio::join!(writing, reading, writer.write(ReceiverStream::new(receiver)));
        written?;
        wrote.context("the log's writer")?;
        ensure!(read.context("the log's reader")? == b"first last", "the reader was given something else");
        Ok(())
    }
}

/// A piece of the upload, like no other.
fn piece(number: u32) -> Bytes {
    number.to_le_bytes().repeat(PIECE / 4).into()
}
