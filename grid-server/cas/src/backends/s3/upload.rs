//! Content on its way into objects.
//!
//! While there is room, a part is held until the service has it, and sent again where that fails. Beyond that, parts
//! stream through as they come: so any number of half-open uploads holds a bounded amount of memory.

use std::num::NonZeroU64;
use std::pin::pin;

use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream as Body, SdkBody};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures::stream::{FuturesUnordered, StreamExt, TryStreamExt};
use grid_core::Digest;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::{PART, Place, S3};
use crate::s3_client::{Answer, Fault};
use crate::{ByteStream, StoreError, content};

/// How many parts an upload may have at most (S3 API, multipart upload limits).
pub(super) const PARTS: NonZeroU64 = NonZeroU64::new(10_000).unwrap();
/// How many parts of one upload are sent at a time.
const PARTS_AT_ONCE: usize = 4;
/// How many pieces a streaming request may be behind.
const AHEAD: usize = 2;

pub(super) async fn write(store: &S3, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
    let mut source = Source::new(content::exact(*digest, content));
    if digest.size() > PART {
        return Multipart::start(store, digest).await?.write(source).await;
    }
    match store.buffer(digest.size()) {
        Some(_room) => {
            let bytes = source.gather(digest.size()).await?;
            source.end().await?;
            put(store, digest, bytes).await
        }
        None => put_as_it_comes(store, digest, source).await,
    }
}

/// Puts an object whose content is in memory.
pub(super) async fn put(store: &S3, digest: &Digest, bytes: Bytes) -> Result<(), StoreError> {
    let length = bytes.len() as u64;
    put_body(store, digest, length, || std::future::ready(Ok(Body::from(bytes.clone())))).await
}

/// Puts an object of so many bytes, which `body` gives as often as it takes.
pub(super) async fn put_body<F: Future<Output = Result<Body, BoxError>>>(
    store: &S3,
    digest: &Digest,
    length: u64,
    body: impl Fn() -> F,
) -> Result<(), StoreError> {
    let (connection, place) = (store.connection(), store.place(digest));
    let request = || {
        let request = connection.client().put_object().bucket(&place.bucket).key(&place.key);
        let body = body();
        async move { request.body(body.await.map_err(SdkError::construction_failure)?).send().await }
    };
    let answer = connection.call(connection.write_limit(length), request).await;
    answer.map(drop).map_err(|fault| store.error(fault))
}

async fn put_as_it_comes(store: &S3, digest: &Digest, mut source: Source) -> Result<(), StoreError> {
    let (sender, body) = body();
    let place = store.place(digest);
    let request = store.connection().client().put_object().bucket(place.bucket).key(place.key);
    let request = Box::pin(request.content_length(digest.size_signed()).body(body).send());
    let feed = source.feed(store, digest.size(), sender, true);
    fed(store, digest.size(), feed, request).await.map(drop)
}

/// A request whose body is being fed.
async fn fed<T, E>(
    store: &S3,
    bytes: u64,
    feed: impl Future<Output = Result<(), StoreError>>,
    mut request: impl Future<Output = Answer<T, E>> + Unpin,
) -> Result<T, StoreError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let connection = store.connection();
    let answer = tokio::select! {
        biased;
        answer = &mut request => answer,
        fed = feed => {
            // Where the content failed, the request is dropped, and with it the unfinished body: nothing is stored.
            fed?;
            let limit = connection.write_limit(bytes);
            tokio::time::timeout(limit, request).await.map_err(|_| store.error(connection.late(limit)))?
        }
    };
    answer.map_err(|error| store.error(connection.meaning(&error)))
}

type Pieces = mpsc::Sender<Result<Frame<Bytes>, BoxError>>;

/// A body, and where its pieces go in.
fn body() -> (Pieces, Body) {
    let (sender, receiver) = mpsc::channel(AHEAD);
    (sender, Body::new(SdkBody::from_body_1_x(StreamBody::new(ReceiverStream::new(receiver)))))
}

/// Content that is taken part by part.
pub(super) struct Source {
    content: ByteStream,
    rest: Bytes,
}

impl Source {
    pub(super) fn new(content: ByteStream) -> Self {
        Self { content, rest: Bytes::new() }
    }

    /// The next piece, of at most so many bytes; an empty one where there is no more.
    pub(super) async fn piece(&mut self, most: u64) -> Result<Bytes, StoreError> {
        while self.rest.is_empty() {
            match self.content.try_next().await? {
                Some(piece) => self.rest = piece,
                None => return Ok(Bytes::new()),
            }
        }
        let length = usize::try_from(most).unwrap_or(usize::MAX).min(self.rest.len());
        Ok(self.rest.split_to(length))
    }

    /// So many bytes.
    async fn gather(&mut self, bytes: u64) -> Result<Bytes, StoreError> {
        let first = self.piece(bytes).await?;
        if first.len() as u64 == bytes {
            return Ok(first);
        }
        let mut all = BytesMut::with_capacity(usize::try_from(bytes).unwrap_or(0));
        all.extend_from_slice(&first);
        while (all.len() as u64) < bytes {
            all.extend_from_slice(&self.piece(bytes - all.len() as u64).await?);
        }
        Ok(all.freeze())
    }

    /// The content's clean end, or the error that is there in its place.
    async fn end(&mut self) -> Result<(), StoreError> {
        self.content.try_next().await.map(drop)
    }

    /// Feeds so many bytes to a request. The last piece waits for the content's `end`, where this is it: what a service
    /// has got whole, it keeps.
    async fn feed(&mut self, store: &S3, bytes: u64, to: Pieces, is_end: bool) -> Result<(), StoreError> {
        let (mut left, limit) = (bytes, store.connection().write_limit(bytes));
        while left > 0 {
            let piece = self.piece(left).await?;
            left -= piece.len() as u64;
            if left == 0 && is_end {
                self.end().await?;
            }
            match tokio::time::timeout(limit, to.send(Ok(Frame::data(piece)))).await {
                Ok(Ok(())) => {}
                // The request is over; its answer says why.
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(store.error(store.connection().late(limit))),
            }
        }
        Ok(())
    }
}

/// An upload in parts; dropped before its completion, it is given up.
pub(super) struct Multipart<'a> {
    store: &'a S3,
    digest: &'a Digest,
    place: Place,
    id: String,
    completed: bool,
}

impl<'a> Multipart<'a> {
    pub(super) async fn start(store: &'a S3, digest: &'a Digest) -> Result<Self, StoreError> {
        let (connection, place) = (store.connection(), store.place(digest));
        let create = connection.client().create_multipart_upload().bucket(&place.bucket).key(&place.key);
        let answer = connection.call(connection.write_limit(0), || create.clone().send()).await;
        let id = answer.map_err(|fault| store.error(fault))?.upload_id.unwrap_or_default();
        Ok(Self { store, digest, place, id, completed: false })
    }

    async fn write(self, mut source: Source) -> Result<(), StoreError> {
        let part_size = PART.max(self.digest.size().div_ceil(PARTS.get()));
        let (mut done, mut sending) = (Vec::new(), FuturesUnordered::new());
        let mut left = self.digest.size();
        for number in 1.. {
            if left == 0 {
                break;
            }
            let size = part_size.min(left);
            left -= size;
            match self.store.buffer(size) {
                Some(room) => {
                    let bytes = beside(source.gather(size), &mut sending, &mut done).await?;
                    sending.push(self.send(number, bytes, room));
                }
                None => {
                    let streamed = self.stream(number, size, &mut source);
                    let part = beside(streamed, &mut sending, &mut done).await?;
                    done.push(part);
                }
            }
            if sending.len() >= PARTS_AT_ONCE {
                done.extend(sending.try_next().await?);
            }
        }
        while let Some(part) = sending.try_next().await? {
            done.push(part);
        }
        drop(sending);
        source.end().await?;
        done.sort_unstable_by_key(CompletedPart::part_number);
        self.complete(done).await
    }

    async fn send(
        &self,
        number: i32,
        bytes: Bytes,
        _room: OwnedSemaphorePermit,
    ) -> Result<CompletedPart, StoreError> {
        let length = bytes.len() as u64;
        self.send_body(number, length, || std::future::ready(Ok(Body::from(bytes.clone())))).await
    }

    /// Sends a part of so many bytes, which `body` gives as often as it takes.
    pub(super) async fn send_body<F: Future<Output = Result<Body, BoxError>>>(
        &self,
        number: i32,
        length: u64,
        body: impl Fn() -> F,
    ) -> Result<CompletedPart, StoreError> {
        let connection = self.store.connection();
        let request = || {
            let request = connection.client().upload_part().bucket(&self.place.bucket).key(&self.place.key);
            let (request, body) = (request.upload_id(&self.id).part_number(number), body());
            async move { request.body(body.await.map_err(SdkError::construction_failure)?).send().await }
        };
        let answer = connection.call(connection.write_limit(length), request).await;
        Ok(part(number, answer.map_err(|fault| self.gone(fault))?.e_tag))
    }

    async fn stream(&self, number: i32, size: u64, source: &mut Source) -> Result<CompletedPart, StoreError> {
        let (sender, body) = body();
        let request = self.store.connection().client().upload_part();
        let request = request.bucket(&self.place.bucket).key(&self.place.key).upload_id(&self.id);
        let request = request.part_number(number).content_length(size.cast_signed()).body(body);
        let request = Box::pin(request.send());
        let answer = fed(self.store, size, source.feed(self.store, size, sender, false), request).await?;
        Ok(part(number, answer.e_tag))
    }

    pub(super) async fn complete(mut self, parts: Vec<CompletedPart>) -> Result<(), StoreError> {
        let connection = self.store.connection();
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = || {
            let request = connection.client().complete_multipart_upload();
            let request = request.bucket(&self.place.bucket).key(&self.place.key).upload_id(&self.id);
            request.multipart_upload(parts.clone()).send()
        };
        match connection.call(connection.write_limit(self.digest.size()), request).await {
            Ok(_) => {}
            // The answer to an earlier attempt may have been lost on its way.
            Err(Fault::Absent) if self.store.has(self.digest).await? => {}
            Err(fault) => return Err(self.gone(fault)),
        }
        self.completed = true;
        Ok(())
    }

    /// An upload that is gone was given up by somebody else: a rule of the bucket, an operator.
    fn gone(&self, fault: Fault) -> StoreError {
        match fault {
            Fault::Absent => {
                self.store.connection().unavailable("the service has given up the upload".to_owned())
            }
            fault => self.store.error(fault),
        }
    }
}

/// What `gather` gives, while the parts before it are being sent: else they would only be sent once nothing comes any more.
async fn beside<T>(
    gather: impl Future<Output = Result<T, StoreError>>,
    sending: &mut FuturesUnordered<impl Future<Output = Result<CompletedPart, StoreError>>>,
    done: &mut Vec<CompletedPart>,
) -> Result<T, StoreError> {
    let mut gather = pin!(gather);
    loop {
        tokio::select! {
            gathered = &mut gather => return gathered,
            Some(sent) = sending.next() => done.push(sent?),
        }
    }
}

fn part(number: i32, tag: Option<String>) -> CompletedPart {
    CompletedPart::builder().part_number(number).set_e_tag(tag).build()
}

impl Drop for Multipart<'_> {
    fn drop(&mut self) {
        let (false, Ok(runtime)) = (self.completed, tokio::runtime::Handle::try_current()) else { return };
        let (store, place, id) = (self.store.clone(), self.place.clone(), self.id.clone());
        runtime.spawn(async move {
            let connection = store.connection();
            let request = connection.client().abort_multipart_upload();
            let request = request.bucket(&place.bucket).key(&place.key).upload_id(id);
            let answer = connection.call(connection.write_limit(0), || request.clone().send()).await;
            if let Err(Fault::Store(error)) = answer {
                tracing::warn!(key = place.key, %error, "an unfinished upload could not be given up");
            }
        });
    }
}
