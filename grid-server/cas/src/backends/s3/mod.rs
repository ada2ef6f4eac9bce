//! `!s3-storage`: blobs as objects of S3 buckets, under BuildGrid's keys.
//!
//! What was acknowledged is as durable as the service makes it. A blob is one object, put at once or as a multipart
//! upload that is completed only after the content's clean end: there is no torn one. A service that is away or asks for
//! less is waited for (see [`S3Connection::call`]). S3 has no call that asks for many objects: existence costs a request
//! a blob, so an index belongs in front (`!sql-index`, `!redis-index`).

mod delete;
mod download;
mod listing;
mod unmeasured;
mod upload;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use grid_core::{Digest, DigestFunction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::content::{self, DigestMap, DigestSet, is_empty_blob};
use crate::form::Form;
use crate::s3_client::layout::Layout;
use crate::s3_client::{Fault, KnownBuckets, S3Connection};
use crate::{BlobStore, ByteRange, ByteStream, StoreError};

/// The size of a part in a multipart upload, and the largest object that is put at once. In bytes.
const PART: u64 = 8 * 1024 * 1024;
/// How many bytes of uploads are held so that a request can be made again; what comes on top of them streams through.
const BUFFERS: usize = 64 * 1024 * 1024;
/// In which steps that is counted.
const BUFFER_STEP: u64 = 64 * 1024;
/// How many requests one call makes at a time.
const AT_ONCE: usize = 64;
/// The same where each carries a blob.
const BLOBS_AT_ONCE: usize = 16;
/// Blobs from this size on are asked for before they are sent.
const ASK_FIRST: u64 = 1024 * 1024;

/// How an [`S3`] is made.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// The buckets and the keys.
    pub layout: Layout,
    /// Whether a deletion removes all versions of an object (`versioned-deletes`); else the service decides.
    pub versioned_deletes: bool,
    /// How blobs are held.
    pub form: Form,
}

/// Blobs in S3.
#[derive(Clone, Debug)]
pub struct S3(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: Arc<S3Connection>,
    options: S3Options,
    buckets: KnownBuckets,
    buffers: Arc<Semaphore>,
}

/// Where a blob is.
#[derive(Clone, Debug)]
struct Place {
    bucket: String,
    key: String,
}

impl S3 {
    /// The storage behind `connection`.
    #[must_use]
    pub fn new(connection: Arc<S3Connection>, options: S3Options) -> Self {
        let buffers = Arc::new(Semaphore::new(BUFFERS / usize::try_from(BUFFER_STEP).unwrap_or(1)));
        Self(Arc::new(Inner { connection, options, buckets: KnownBuckets::default(), buffers }))
    }

    fn form(&self) -> Form {
        self.0.options.form
    }

    fn connection(&self) -> &S3Connection {
        &self.0.connection
    }

    fn place(&self, digest: &Digest) -> Place {
        let S3Options { layout, form, .. } = &self.0.options;
        Place { bucket: layout.bucket_of(digest), key: form.name(layout.key_of(digest)) }
    }

    /// Room to hold so many bytes, if there is some left.
    fn buffer(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let steps = u32::try_from(bytes.div_ceil(BUFFER_STEP)).ok()?;
        Arc::clone(&self.0.buffers).try_acquire_many_owned(steps).ok()
    }

    fn error(&self, fault: Fault) -> StoreError {
        fault.into_store_error(self.connection().name())
    }

    /// The error of a request about a blob that isn't there, unless the whole bucket isn't.
    async fn not_found(&self, digest: &Digest, place: &Place) -> StoreError {
        match self.0.buckets.check(self.connection(), &place.bucket).await {
            Ok(()) => StoreError::NotFound(*digest),
            Err(error) => error,
        }
    }

    /// Whether a blob is there. An object of another size is none.
    async fn has(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.look(*digest).await?.is_some())
    }

    async fn read_one(&self, digest: Digest) -> (Digest, Result<Bytes, StoreError>) {
        let bytes = match self.read(&digest, ByteRange::default()).await {
            Ok(content) if self.form() == Form::Plain => content::collect(&digest, content).await,
            Ok(content) => content.try_collect::<Vec<Bytes>>().await.map(|pieces| pieces.concat().into()),
            Err(error) => Err(error),
        };
        (digest, bytes)
    }

    async fn write_one(&self, digest: Digest, bytes: Bytes) -> (Digest, Result<(), StoreError>) {
        let written = match bytes.len() as u64 {
            size if size > PART => self.write(&digest, content::from_bytes(bytes)).await,
            _ => upload::put(self, &digest, bytes).await,
        };
        (digest, written)
    }
}

#[async_trait]
impl BlobStore for S3 {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let asked = content::missing_of(digests, |_| false);
        let requests =
            asked.iter().copied().map(|digest| async move { Ok((digest, self.has(&digest).await?)) });
        let answers: Vec<(Digest, bool)> =
            stream::iter(requests).buffer_unordered(AT_ONCE).try_collect().await?;
        let present: DigestSet =
            answers.into_iter().filter(|(_, is)| *is).map(|(digest, _)| digest).collect();
        Ok(content::missing_of(&asked, |digest| present.contains(digest)))
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        let (start, end) = content::bounds(digest, range)?;
        if is_empty_blob(digest) || (start == end && self.has(digest).await?) {
            return Ok(content::from_bytes(Bytes::new()));
        }
        if start == end {
            return Err(StoreError::NotFound(*digest));
        }
        download::read(self.clone(), *digest, start, end).await
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        if is_empty_blob(digest) || (digest.size() >= ASK_FIRST && self.has(digest).await?) {
            return Ok(());
        }
        match self.form() {
            Form::Plain => upload::write(self, digest, content).await,
            Form::Packed => unmeasured::write(self, digest, content).await,
        }
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        let asked = content::missing_of(digests, |_| false);
        let reads = asked.into_iter().map(|digest| self.read_one(digest));
        let answers: DigestMap<_> = stream::iter(reads).buffer_unordered(BLOBS_AT_ONCE).collect().await;
        let answer = |digest| answers.get(digest).cloned().unwrap_or_else(|| Ok(Bytes::new()));
        digests.iter().map(answer).collect()
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let digests: Vec<Digest> = blobs.iter().map(|(digest, _)| *digest).collect();
        let (blobs, wrong) = self.form().sized(blobs);
        let writes = blobs.into_iter().map(|(digest, bytes)| self.write_one(digest, bytes));
        let answers: DigestMap<_> = stream::iter(writes).buffer_unordered(BLOBS_AT_ONCE).collect().await;
        content::answers(&digests, &answers, wrong)
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        delete::delete(self, digests).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let some = Digest::of(DigestFunction::Sha256, b"");
        self.connection().check_bucket(&self.place(&some).bucket).await
    }
}
