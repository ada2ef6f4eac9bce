//! Blobs as streams, which go on where they broke off.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, TryStreamExt};
use grid_core::Digest;
use grid_proto::bytestream::{QueryWriteStatusRequest, ReadRequest, ReadResponse, WriteRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{Remote, resource};
use crate::client::Patience;
use crate::{ByteStream, StoreError, content};

/// The largest piece sent in one message, in bytes.
const PIECE: usize = 256 * 1024;
/// How much of what was sent is kept until the end, in case it must be sent again. In bytes.
const WINDOW: u64 = 4 * 1024 * 1024;

/// The bytes from `start` to `end`. Answers once the first of them are there, so that a missing blob is an error here.
pub(super) async fn read(
    remote: &Remote,
    digest: Digest,
    start: u64,
    end: u64,
) -> Result<ByteStream, StoreError> {
    let mut download = Download { remote: remote.clone(), digest, position: start, end, source: None };
    let first = download.next().await?;
    let rest = stream::try_unfold(download, |mut download| async move {
        if download.position == download.end {
            return Ok(None);
        }
        let piece = download.next().await?;
        Ok(Some((piece, download)))
    });
    Ok(Box::pin(futures::StreamExt::chain(stream::iter([Ok(first)]), rest)))
}

struct Download {
    remote: Remote,
    digest: Digest,
    position: u64,
    end: u64,
    source: Option<Streaming<ReadResponse>>,
}

impl Download {
    /// The next piece that is not empty, from a new stream if the old one breaks.
    async fn next(&mut self) -> Result<Bytes, StoreError> {
        let patience = *self.remote.connection.patience();
        let mut tries = patience.tries();
        loop {
            match self.attempt(&patience).await {
                Ok(piece) => {
                    self.position += piece.len() as u64;
                    return Ok(piece);
                }
                Err(status) => {
                    self.source = None;
                    let paused = tries.pause_after(status).await;
                    paused.map_err(|status| self.remote.connection.error(&status, Some(&self.digest)))?;
                }
            }
        }
    }

    async fn attempt(&mut self, patience: &Patience) -> Result<Bytes, Status> {
        if self.source.is_none() {
            let request = ReadRequest {
                resource_name: resource::read(self.remote.connection.instance_name(), &self.digest),
                read_offset: signed(self.position),
                read_limit: if self.end == self.digest.size() { 0 } else { signed(self.end - self.position) },
            };
            let answer = patience.attempt(self.remote.streams.read(request)).await?;
            self.source = Some(answer.into_inner());
        }
        loop {
            let Some(source) = &mut self.source else {
                return Err(Status::unavailable("the stream is gone"));
            };
            match patience.attempt(source.message()).await? {
                Some(ReadResponse { data }) if data.len() as u64 > self.end - self.position => {
                    return Err(Status::data_loss("the server sent more than the blob has"));
                }
                Some(ReadResponse { data }) if data.is_empty() => {}
                Some(ReadResponse { data }) => return Ok(data),
                None => return Err(Status::aborted("the server ended the stream before the blob's end")),
            }
        }
    }
}

/// Uploads a blob.
pub(super) async fn write(remote: &Remote, digest: Digest, content: ByteStream) -> Result<(), StoreError> {
    let name = resource::write(remote.connection.instance_name(), &digest);
    let mut source =
        Source { content: content::exact(digest, content), window: VecDeque::new(), read: 0, ended: false };
    let mut tries = remote.connection.patience().tries();
    let mut position = 0;
    loop {
        let status = match attempt(remote, &name, &mut source, position).await? {
            Ok(committed) if committed < 0 || committed.unsigned_abs() == digest.size() => return Ok(()),
            Ok(committed) => {
                Status::aborted(format!("the server stopped at {committed} of {} bytes", digest.size()))
            }
            Err(status) => status,
        };
        let lost = |status: &Status| remote.connection.error(status, Some(&digest));
        tries.pause_after(status).await.map_err(|status| lost(&status))?;
        let Some(committed) = committed(remote, &name).await.map_err(|status| lost(&status))? else {
            return Ok(());
        };
        if committed > position {
            tries.progressed();
        }
        position = source.resume(committed).ok_or_else(|| StoreError::Unavailable {
            backend: Arc::clone(remote.connection.name()),
            message: format!("an upload broke off, and the server kept only {committed} bytes of it"),
            retry_after: None,
        })?;
    }
}

/// How many bytes of an unfinished upload the server has; none where it doesn't know it, or doesn't know how to tell.
/// `None` for a finished one.
async fn committed(remote: &Remote, name: &str) -> Result<Option<u64>, Status> {
    let call = || {
        let mut streams = remote.streams.clone();
        let request = QueryWriteStatusRequest { resource_name: name.to_owned() };
        async move { streams.query_write_status(request).await }
    };
    match remote.connection.patience().call(call).await.map(tonic::Response::into_inner) {
        Ok(answer) if answer.complete => Ok(None),
        Ok(answer) => Ok(Some(u64::try_from(answer.committed_size).unwrap_or(0))),
        Err(status) if matches!(status.code(), Code::NotFound | Code::Unimplemented) => Ok(Some(0)),
        Err(status) => Err(status),
    }
}

/// One try to send the content from `position` on. The outer error is the sender's, the inner one the server's.
async fn attempt(
    remote: &Remote,
    name: &str,
    source: &mut Source,
    position: u64,
) -> Result<Result<i64, Status>, StoreError> {
    let (sender, receiver) = mpsc::channel(2);
    let mut streams = remote.streams.clone();
    let call = streams.write(ReceiverStream::new(receiver));
    let feed = source.feed(name, position, (sender, remote.connection.patience().limit()));
    tokio::pin!(call, feed);
    // The server may answer before it has seen everything: the blob is there already, or it wants no more of it.
    let answer = tokio::select! {
        answer = &mut call => answer,
        fed = &mut feed => match fed? {
            Fed::All => remote.connection.patience().attempt(call).await,
            Fed::Stuck(limit) => {
                Err(Status::deadline_exceeded(format!("the server took nothing of an upload within {limit:?}")))
            }
        },
    };
    Ok(answer.map(|answer| answer.into_inner().committed_size))
}

/// How feeding a call ended.
enum Fed {
    /// Everything was sent, or the call is over.
    All,
    /// The server took nothing for so long.
    Stuck(Duration),
}

/// The content, of which what was read last can be read again.
struct Source {
    content: ByteStream,
    window: VecDeque<Bytes>,
    /// How many bytes have been read from `content`; the window ends there.
    read: u64,
    ended: bool,
}

impl Source {
    /// Where to go on after the server has `committed` bytes, if the window reaches back so far.
    fn resume(&self, committed: u64) -> Option<u64> {
        let held: u64 = self.window.iter().map(|piece| piece.len() as u64).sum();
        (self.read - held..=self.read).contains(&committed).then_some(committed)
    }

    /// Sends everything from `position` on to a server that takes something every so often, the last piece marked as such: it goes only once the content has ended well.
    async fn feed(
        &mut self,
        name: &str,
        position: u64,
        (sender, patience): (mpsc::Sender<WriteRequest>, Duration),
    ) -> Result<Fed, StoreError> {
        let mut outbox = Outbox { name: name.to_owned(), position, held: None, sender, patience };
        match self.pour(position, &mut outbox).await? {
            Ok(()) | Err(Stop::Over) => Ok(Fed::All),
            Err(Stop::Stuck) => Ok(Fed::Stuck(patience)),
        }
    }

    async fn pour(&mut self, position: u64, outbox: &mut Outbox) -> Result<Result<(), Stop>, StoreError> {
        for piece in self.tail(position) {
            if let Err(stop) = outbox.push(piece).await {
                return Ok(Err(stop));
            }
        }
        while !self.ended {
            let Some(piece) = self.content.try_next().await? else {
                self.ended = true;
                break;
            };
            self.remember(piece.clone());
            if let Err(stop) = outbox.push(piece).await {
                return Ok(Err(stop));
            }
        }
        Ok(outbox.finish().await)
    }

    fn remember(&mut self, piece: Bytes) {
        self.read += piece.len() as u64;
        self.window.push_back(piece);
        let mut held: u64 = self.window.iter().map(|piece| piece.len() as u64).sum();
        while held > WINDOW && self.window.len() > 1 {
            held -= self.window.pop_front().map_or(0, |piece| piece.len() as u64);
        }
    }

    /// What the window has from `position` on.
    fn tail(&self, position: u64) -> Vec<Bytes> {
        let held: u64 = self.window.iter().map(|piece| piece.len() as u64).sum();
        let mut skip = usize::try_from(position.saturating_sub(self.read - held)).unwrap_or(usize::MAX);
        let mut tail = Vec::new();
        for piece in &self.window {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            tail.push(piece.slice(skipped..));
        }
        tail
    }
}

/// Why no more is sent.
enum Stop {
    /// The call is over.
    Over,
    /// The server takes nothing.
    Stuck,
}

/// Pieces on their way into requests; the last one is held back until it is known to be the last.
struct Outbox {
    name: String,
    position: u64,
    held: Option<Bytes>,
    sender: mpsc::Sender<WriteRequest>,
    /// How long the server may take nothing.
    patience: Duration,
}

impl Outbox {
    async fn push(&mut self, mut piece: Bytes) -> Result<(), Stop> {
        while !piece.is_empty() {
            let part = piece.split_to(piece.len().min(PIECE));
            if let Some(held) = self.held.replace(part) {
                self.send(held, false).await?;
            }
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Stop> {
        let last = self.held.take().unwrap_or_default();
        self.send(last, true).await
    }

    async fn send(&mut self, data: Bytes, finish_write: bool) -> Result<(), Stop> {
        let length = data.len() as u64;
        // The name is needed in the first message only.
        let resource_name = std::mem::take(&mut self.name);
        let request = WriteRequest { resource_name, write_offset: signed(self.position), finish_write, data };
        self.position += length;
        match tokio::time::timeout(self.patience, self.sender.send(request)).await {
            Ok(sent) => sent.map_err(|_| Stop::Over),
            Err(_) => Err(Stop::Stuck),
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
