//! Writing a blob: from a client's messages to one stream for the store.
//!
//! [`Incoming`] checks the order of the messages as they come; nothing is gathered, so that a slow store slows its
//! client. An upload that can resume goes through [`super::resume`] on its way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};
use grid_cas::{ByteStream, StoreError};
use grid_proto::bytestream::{QueryWriteStatusResponse, WriteRequest};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};
use tonic::{Status, Streaming};

use super::name::Blob;
use super::{ByteStreamInstance, present};
use crate::compression::Compression;
use crate::error::status;
use crate::{RpcError, to_status};

/// What a write of a blob that is there already answers (REAPI, `ContentAddressableStorage`).
fn early(blob: &Blob<'_>) -> i64 {
    match blob.compression {
        Compression::Identity => blob.digest.size_signed(),
        Compression::Zstd => -1,
    }
}

/// How far an upload has come.
pub(super) async fn query(
    instance: &ByteStreamInstance,
    blob: &Blob<'_>,
    uuid: &str,
) -> Result<QueryWriteStatusResponse, Status> {
    if present(&instance.store, &blob.digest).await.map_err(status)? {
        return Ok(QueryWriteStatusResponse { committed_size: blob.digest.size_signed(), complete: true });
    }
    let committed = super::resume::committed(instance, blob, uuid).await?;
    Ok(QueryWriteStatusResponse { committed_size: i64::try_from(committed).unwrap_or(0), complete: false })
}

/// Writes a blob from a client's messages; gives the committed size to answer.
pub(super) async fn write(
    instance: &ByteStreamInstance,
    blob: &Blob<'_>,
    uuid: &str,
    first: WriteRequest,
    messages: Streaming<WriteRequest>,
    idle: Duration,
) -> Result<i64, Status> {
    check(instance, blob).map_err(status)?;
    if present(&instance.store, &blob.digest).await.map_err(status)? {
        if !instance.early_return && !first.finish_write {
            drain(blob, first.data.len() as u64, messages, idle).await?;
        }
        return Ok(early(blob));
    }
    let start = u64::try_from(first.write_offset).map_err(|_| {
        status(RpcError::field("write_offset", format!("{} is negative", first.write_offset)))
    })?;
    let upload = super::resume::begin(instance, blob, uuid, start).await?;
    let shared = Arc::new(Mutex::new(Shared::default()));
    let incoming = Incoming::new(first, messages, start, Arc::clone(&shared), idle);
    let plain = match blob.compression {
        Compression::Identity => Box::pin(incoming) as ByteStream,
        Compression::Zstd => super::resume::unpack(blob, start, Box::pin(incoming)).map_err(status)?,
    };
    let result = instance.store.write(&blob.digest, upload.wrap(plain)).await;
    let (failure, end, rest) = {
        let mut shared = shared.lock();
        (shared.failure.take(), shared.end, shared.rest.take())
    };
    match (result, failure) {
        (Ok(()), None) => {}
        // The client's mistake explains the store's error, not the other way round.
        (_, Some(failure)) => return Err(failure),
        (Err(error), None) => {
            if is_wrong(&error) {
                upload.done().await;
            }
            return Err(to_status(&error));
        }
    }
    upload.done().await;
    let Some(end) = end else { return Ok(early(blob)) };
    if let Some(rest) = rest {
        refuse_more(rest)?;
    }
    Ok(i64::try_from(end).unwrap_or(i64::MAX))
}

/// Whether what was sent is not the blob: nothing that follows can make it the blob.
const fn is_wrong(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::DigestMismatch { .. } | StoreError::SizeMismatch { .. } | StoreError::Malformed(_)
    )
}

fn check(instance: &ByteStreamInstance, blob: &Blob<'_>) -> Result<(), StoreError> {
    if instance.read_only {
        return Err(StoreError::ReadOnly);
    }
    match instance.max_blob_bytes {
        Some(limit) if blob.digest.size() > limit => {
            Err(StoreError::TooLarge { digest: blob.digest, limit, backend: "instance".into() })
        }
        _ => Ok(()),
    }
}

/// Takes what a client sends after the `taken` bytes of its first message of a blob that is there, for the sake of
/// proxies that can't bear an early answer.
async fn drain(
    blob: &Blob<'_>,
    mut taken: u64,
    mut messages: Streaming<WriteRequest>,
    idle: Duration,
) -> Result<(), Status> {
    let limit = match blob.compression {
        Compression::Identity => blob.digest.size(),
        // What can't be compressed grows by little; a frame for each small piece makes up for more.
        Compression::Zstd => blob.digest.size().saturating_mul(2).saturating_add(64 << 10),
    };
    while taken <= limit {
        let message = tokio::time::timeout(idle, messages.message()).await.map_err(|_| paused(idle))??;
        let Some(message) = message.filter(|message| !message.finish_write) else { return Ok(()) };
        taken = taken.saturating_add(message.data.len() as u64);
    }
    Err(status(StoreError::SizeMismatch { expected: blob.digest, actual: taken }))
}

/// Refuses what has come after `finish_write`; the client has been told that nothing may.
fn refuse_more(mut rest: Streaming<WriteRequest>) -> Result<(), Status> {
    match rest.next().now_or_never() {
        Some(Some(Ok(_))) => {
            Err(status(RpcError::field("finish_write", "was set, and another message came")))
        }
        _ => Ok(()),
    }
}

fn paused(idle: Duration) -> Status {
    let message = format!("the client sent nothing for {} s in the middle of a write", idle.as_secs());
    status(RpcError::Deadline(message))
}

/// What the stream of pieces tells the call that started it.
#[derive(Debug, Default)]
struct Shared {
    /// Why the messages are no good.
    failure: Option<Status>,
    /// The offset after the last byte, once the client has finished.
    end: Option<u64>,
    /// The messages after the one that finished.
    rest: Option<Streaming<WriteRequest>>,
}

/// A client's messages as content.
struct Incoming {
    first: Option<WriteRequest>,
    messages: Option<Streaming<WriteRequest>>,
    name: String,
    offset: u64,
    shared: Arc<Mutex<Shared>>,
    idle: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl Incoming {
    fn new(
        first: WriteRequest,
        messages: Streaming<WriteRequest>,
        offset: u64,
        shared: Arc<Mutex<Shared>>,
        idle: Duration,
    ) -> Self {
        let name = first.resource_name.clone();
        let deadline = Box::pin(tokio::time::sleep(idle));
        Self { first: Some(first), messages: Some(messages), name, offset, shared, idle, deadline }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<WriteRequest, Status>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let Some(messages) = &mut self.messages else { return Poll::Ready(None) };
        match messages.poll_next_unpin(cx) {
            Poll::Ready(message) => {
                self.deadline.as_mut().reset(Instant::now() + self.idle);
                Poll::Ready(message)
            }
            Poll::Pending => {
                ready!(self.deadline.as_mut().poll(cx));
                Poll::Ready(Some(Err(paused(self.idle))))
            }
        }
    }

    /// Takes a message in; gives its data.
    fn accept(&mut self, message: WriteRequest) -> Result<Bytes, Status> {
        if !message.resource_name.is_empty() && message.resource_name != self.name {
            return Err(status(RpcError::field("resource_name", "changed in the middle of a write")));
        }
        if u64::try_from(message.write_offset) != Ok(self.offset) {
            let problem = format!("is {}; expected {}", message.write_offset, self.offset);
            return Err(status(RpcError::field("write_offset", problem)));
        }
        self.offset += message.data.len() as u64;
        if message.finish_write {
            let mut shared = self.shared.lock();
            shared.end = Some(self.offset);
            shared.rest = self.messages.take();
        }
        Ok(message.data)
    }

    fn fail(&mut self, failure: Status) -> Poll<Option<Result<Bytes, StoreError>>> {
        let message = failure.message().into();
        self.shared.lock().failure = Some(failure);
        self.messages = None;
        Poll::Ready(Some(Err(StoreError::Interrupted(message))))
    }
}

impl Stream for Incoming {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.first.is_none() && self.messages.is_none() {
                return Poll::Ready(None);
            }
            let accepted = match ready!(self.poll_message(cx)) {
                Some(Ok(message)) => self.accept(message),
                Some(Err(error)) => Err(error),
                None => Err(status(RpcError::field(
                    "finish_write",
                    format!("the stream ended at offset {} without it", self.offset),
                ))),
            };
            match accepted {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(Some(Ok(data))),
                Err(failure) => return self.fail(failure),
            }
        }
    }
}
