//! `metrics`: tells a [`StoreObserver`](crate::observer::StoreObserver) of each call on the store within.
//!
//! It stands around each store of the tree whose label is wanted, and changes nothing.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use grid_core::{Coded, Digest, ErrorCode};

use crate::observer::{Method, SharedObserver, StoreEvent};
use crate::{BlobStore, ByteRange, ByteStream, SharedStore, StoreError};

/// A store whose calls are counted.
#[derive(Debug)]
pub struct Metrics {
    inner: SharedStore,
    store: &'static str,
    observer: SharedObserver,
}

/// A call on its way; its event is told when it is dropped.
struct Call {
    store: &'static str,
    observer: SharedObserver,
    method: Method,
    began: Instant,
    blobs: u64,
    bytes: u64,
    error: Option<ErrorCode>,
}

impl Drop for Call {
    fn drop(&mut self) {
        let Self { method, error, blobs, bytes, .. } = *self;
        let took = self.began.elapsed();
        self.observer.event(self.store, StoreEvent::Call { method, error, took, blobs, bytes });
    }
}

impl Call {
    /// Notes how the call ended; until then it counts as cancelled.
    fn ended<T>(&mut self, result: &Result<T, StoreError>) {
        self.error = result.as_ref().err().map(Coded::code);
    }

    /// Notes the answers of a batch: that a blob is not there is an answer, not a failure.
    fn answered<T>(&mut self, answers: &[Result<T, StoreError>], size: impl Fn(&T) -> u64) {
        let codes = answers.iter().filter_map(|answer| answer.as_ref().err()).map(Coded::code);
        self.error = codes.filter(|code| *code != ErrorCode::NotFound).min_by_key(|code| code.is_transient());
        self.bytes += answers.iter().flatten().map(size).sum::<u64>();
    }
}

impl Metrics {
    /// Tells `observer` of the calls on `inner`, under the label `store`.
    #[must_use]
    pub fn new(inner: SharedStore, store: &'static str, observer: SharedObserver) -> Self {
        Self { inner, store, observer }
    }

    fn call(&self, method: Method, blobs: usize) -> Call {
        Call {
            store: self.store,
            observer: self.observer.clone(),
            method,
            began: Instant::now(),
            blobs: blobs as u64,
            bytes: 0,
            error: Some(ErrorCode::Cancelled),
        }
    }
}

#[async_trait]
impl BlobStore for Metrics {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let mut call = self.call(Method::BulkStat, digests.len());
        let result = self.inner.find_missing(digests).await;
        call.ended(&result);
        if let Ok(missing) = &result {
            let (asked, missing) = (digests.len() as u64, missing.len() as u64);
            self.observer.event(self.store, StoreEvent::Missing { asked, missing });
        }
        result
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        let mut call = self.call(Method::StreamRead, 1);
        match self.inner.read(digest, range).await {
            Ok(content) => Ok(Box::pin(Measured { content, call })),
            error => {
                call.ended(&error);
                error
            }
        }
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        let mut call = self.call(Method::StreamWrite, 1);
        let result = self.inner.write(digest, content).await;
        call.ended(&result);
        call.bytes = if result.is_ok() { digest.size() } else { 0 };
        result
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        let mut call = self.call(Method::BulkRead, digests.len());
        let answers = self.inner.read_batch(digests).await;
        call.answered(&answers, |bytes| bytes.len() as u64);
        answers
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let mut call = self.call(Method::BulkWrite, blobs.len());
        let bytes = blobs.iter().map(|(digest, _)| digest.size()).sum();
        let answers = self.inner.write_batch(blobs).await;
        call.answered(&answers, |()| 0);
        call.bytes = bytes;
        answers
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        let mut call = self.call(Method::BulkDelete, digests.len());
        let answers = self.inner.delete(digests).await;
        call.answered(&answers, |()| 0);
        for (digest, _) in digests.iter().zip(&answers).filter(|(_, answer)| answer.is_ok()) {
            self.observer.event(self.store, StoreEvent::Deleted { bytes: digest.size() });
        }
        let failed = answers.iter().filter(|answer| answer.is_err()).count() as u64;
        if failed > 0 {
            self.observer.event(self.store, StoreEvent::DeleteErrors(failed));
        }
        answers
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.inner.probe().await
    }
}

/// Content whose call ends with it.
struct Measured {
    content: ByteStream,
    call: Call,
}

impl Stream for Measured {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.content.as_mut().poll_next(context);
        match &polled {
            Poll::Ready(Some(Ok(piece))) => self.call.bytes += piece.len() as u64,
            Poll::Ready(Some(Err(error))) => self.call.error = Some(error.code()),
            Poll::Ready(None) if self.call.error == Some(ErrorCode::Cancelled) => self.call.error = None,
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }
}
