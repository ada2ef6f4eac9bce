//! `!zstd-storage`: blobs packed in the backend behind it, in Zstandard frames.
//!
//! It stands directly over a backend of [`Form::Packed`](crate::form::Form::Packed), whose limits, eviction and costs then
//! count packed bytes. Each blob is packed, whatever its size and kind: so one name tells whether it is there. A frame
//! can't be entered in its middle: a read from an offset unpacks what is before it. What unpacks to another length than
//! its digest says is told as damaged, never served as whole.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use grid_core::{Digest, Timestamp};

use crate::content::{self, is_empty_blob};
use crate::inventory::{Inventory, Pages, Stored};
use crate::packing::{compress_stream, decompress_stream};
use crate::{BlobStore, ByteRange, ByteStream, StoreError};

/// How many blobs of a batch are packed or unpacked at a time.
const AT_ONCE: usize = 4;

/// A backend whose blobs are packed.
#[derive(Debug)]
pub struct Zstd {
    inner: Arc<dyn Inventory>,
    level: i32,
    name: Arc<str>,
}

impl Zstd {
    /// Packs what is in `inner`, a backend of the packed form, by zstd's `level`; `name` is its place in the configuration,
    /// for errors.
    #[must_use]
    pub fn new(inner: Arc<dyn Inventory>, level: i32, name: Arc<str>) -> Self {
        Self { inner, level, name }
    }

    fn pack(&self, digest: &Digest, content: ByteStream) -> Result<ByteStream, StoreError> {
        compress_stream(digest.size(), self.level, content::exact(*digest, content))
    }

    /// A blob's own bytes.
    fn unpack(&self, digest: &Digest, packed: ByteStream) -> Result<ByteStream, StoreError> {
        let (digest, backend) = (*digest, Arc::clone(&self.name));
        let damaged = move |error| match error {
            StoreError::Malformed(_) | StoreError::SizeMismatch { .. } => {
                StoreError::Corrupt { digest, backend: Arc::clone(&backend) }
            }
            error => error,
        };
        Ok(Box::pin(decompress_stream(digest, digest.size(), packed)?.map_err(damaged)))
    }

    async fn read_one(
        &self,
        digest: &Digest,
        packed: Result<Bytes, StoreError>,
    ) -> Result<Bytes, StoreError> {
        if is_empty_blob(digest) {
            return Ok(Bytes::new());
        }
        content::collect(digest, self.unpack(digest, content::from_bytes(packed?))?).await
    }

    async fn pack_one(&self, digest: Digest, bytes: Bytes) -> Result<(Digest, Bytes), StoreError> {
        let packed = self.pack(&digest, content::from_bytes(bytes))?;
        let pieces: Vec<Bytes> = packed.try_collect().await?;
        Ok((digest, pieces.concat().into()))
    }
}

#[async_trait]
impl BlobStore for Zstd {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.inner.find_missing(digests).await
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        let (start, end) = content::bounds(digest, range)?;
        if is_empty_blob(digest) {
            return Ok(content::from_bytes(Bytes::new()));
        }
        let packed = self.inner.read(digest, ByteRange::default()).await?;
        let unpacked = self.unpack(digest, packed)?;
        Ok(if start == 0 && end == digest.size() { unpacked } else { part(unpacked, start, end) })
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        if is_empty_blob(digest) || self.inner.find_missing(&[*digest]).await?.is_empty() {
            return Ok(());
        }
        self.inner.write(digest, self.pack(digest, content)?).await
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        let packed = self.inner.read_batch(digests).await;
        let reads = digests.iter().zip(packed).map(|(digest, packed)| self.read_one(digest, packed));
        stream::iter(reads.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let digests: Vec<Digest> = blobs.iter().map(|(digest, _)| *digest).collect();
        let (blobs, wrong) = content::sized(blobs);
        let packs = blobs.into_iter().map(|(digest, bytes)| async move {
            self.pack_one(digest, bytes).await.map_err(|error| (digest, error))
        });
        let packed: Vec<_> = stream::iter(packs.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await;
        let mut answers = content::DigestMap::default();
        let mut good = Vec::with_capacity(packed.len());
        for one in packed {
            match one {
                Ok(blob) => good.push(blob),
                Err((digest, error)) => drop(answers.insert(digest, Err(error))),
            }
        }
        let named: Vec<Digest> = good.iter().map(|(digest, _)| *digest).collect();
        answers.extend(named.into_iter().zip(self.inner.write_batch(good).await));
        content::answers(&digests, &answers, wrong)
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        self.inner.delete(digests).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.inner.probe().await
    }
}

#[async_trait]
impl Inventory for Zstd {
    fn list(&self) -> Pages<'_> {
        self.inner.list()
    }

    async fn stored(&self, digests: &[Digest]) -> Result<Vec<Stored>, StoreError> {
        self.inner.stored(digests).await
    }

    async fn abandon(&self, before: Timestamp, dry_run: bool) -> Result<u64, StoreError> {
        self.inner.abandon(before, dry_run).await
    }
}

/// The bytes of `content` from `start` to `end`; what comes after them is not waited for.
fn part(content: ByteStream, start: u64, end: u64) -> ByteStream {
    Box::pin(stream::try_unfold((content, 0_u64), move |(mut content, mut position)| async move {
        while position < end {
            let Some(piece) = content.try_next().await? else { break };
            let (first, last) = (position, position + piece.len() as u64);
            position = last;
            let within = |at: u64| usize::try_from(at.clamp(first, last) - first).unwrap_or(0);
            let piece = piece.slice(within(start)..within(end));
            if !piece.is_empty() {
                return Ok(Some((piece, (content, position))));
            }
        }
        Ok(None)
    }))
}
