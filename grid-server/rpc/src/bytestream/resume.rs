//! Uploads that resume: the bytes of a large blob are kept beside the write until it is done, in parts that every
//! replica can read, so that a client whose connection broke goes on where the last whole part ended.
//!
//! Offsets here are those of the uncompressed blob: a compressed upload resumes with a new zstd stream that starts
//! at that offset (REAPI, `ContentAddressableStorage`). Trouble of the upload store never fails a write; the upload
//! just can't resume.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt, TryStreamExt};
use grid_cas::{ByteStream, StoreError};
use grid_streams::{StreamsError, UploadStore};
use tonic::Status;

use super::ByteStreamInstance;
use super::name::Blob;
use crate::RpcError;
use crate::compression::decompress_stream;
use crate::error::status;

/// The size of a part, in bytes: what a client sends twice at most.
pub(super) const PART: usize = 4 << 20;

/// The part of an upload that is done, where it can resume at all.
pub(super) struct Upload {
    kept: Option<Kept>,
    start: u64,
}

#[derive(Clone)]
struct Kept {
    store: Arc<dyn UploadStore>,
    key: Arc<str>,
}

fn kept(instance: &ByteStreamInstance, blob: &Blob<'_>, uuid: &str) -> Option<Kept> {
    let uploads = instance.uploads.as_ref().filter(|u| blob.digest.size() >= u.from_bytes)?;
    let key = format!("{}/{uuid}/{}/{}", blob.instance, blob.digest.function(), blob.digest);
    Some(Kept { store: Arc::clone(&uploads.store), key: key.into() })
}

/// How many bytes of an unfinished upload are kept.
pub(super) async fn committed(
    instance: &ByteStreamInstance,
    blob: &Blob<'_>,
    uuid: &str,
) -> Result<u64, Status> {
    match kept(instance, blob, uuid) {
        Some(kept) => kept.store.committed(&kept.key).await.map_err(status),
        None => Ok(0),
    }
}

/// An upload whose first message says that it starts at `start`.
pub(super) async fn begin(
    instance: &ByteStreamInstance,
    blob: &Blob<'_>,
    uuid: &str,
    start: u64,
) -> Result<Upload, Status> {
    let kept = kept(instance, blob, uuid);
    if start > 0 {
        let committed = match &kept {
            Some(kept) => kept.store.committed(&kept.key).await.map_err(status)?,
            None => 0,
        };
        if start != committed {
            let problem = format!("is {start}; this upload can go on from {committed} or start again from 0");
            return Err(status(RpcError::field("write_offset", problem)));
        }
    }
    if let Some(kept) = kept.as_ref().filter(|_| start == 0)
        && let Err(error) = kept.store.remove(&kept.key).await
    {
        tracing::warn!(%error, "an earlier attempt at an upload could not be forgotten; this one can't resume");
        return Ok(Upload { kept: None, start });
    }
    Ok(Upload { kept, start })
}

/// The rest of a blob from `start` on, out of its compressed form.
pub(super) fn unpack(blob: &Blob<'_>, start: u64, packed: ByteStream) -> Result<ByteStream, StoreError> {
    decompress_stream(blob.digest, blob.digest.size().saturating_sub(start), packed)
}

impl Upload {
    /// The whole blob: what is kept of it, then `rest`, which is kept as it goes by.
    pub(super) fn wrap(&self, rest: ByteStream) -> ByteStream {
        let Some(kept) = self.kept.clone() else { return rest };
        let earlier = earlier(kept.clone(), self.start);
        Box::pin(earlier.chain(keeping(kept, self.start, rest)))
    }

    /// Forgets the parts: the blob is stored, or what was sent is another.
    pub(super) async fn done(&self) {
        if let Some(kept) = &self.kept
            && let Err(error) = kept.store.remove(&kept.key).await
        {
            tracing::warn!(%error, "the parts of a finished upload stay until they expire");
        }
    }
}

/// The parts before `end`.
fn earlier(kept: Kept, end: u64) -> ByteStream {
    Box::pin(stream::try_unfold((kept, 0_u64), move |(kept, at)| async move {
        if at >= end {
            return Ok(None);
        }
        let lost = || StoreError::Interrupted("a part of the upload has expired; start again from 0".into());
        let part = kept.store.part(&kept.key, at).await.map_err(|e| unavailable(&e))?.ok_or_else(lost)?;
        let next = at + part.len() as u64;
        Ok((!part.is_empty()).then_some((part, (kept, next))))
    }))
}

fn unavailable(error: &StreamsError) -> StoreError {
    StoreError::Unavailable { backend: "uploads".into(), message: error.to_string(), retry_after: None }
}

/// Passes `rest` on, and keeps each whole part of it.
fn keeping(kept: Kept, start: u64, rest: ByteStream) -> ByteStream {
    let state = Keeping { kept: Some(kept), rest, at: start, part: BytesMut::new() };
    Box::pin(stream::try_unfold(state, Keeping::step))
}

struct Keeping {
    /// `None` once keeping has failed.
    kept: Option<Kept>,
    rest: ByteStream,
    /// Where the part that is being gathered starts.
    at: u64,
    part: BytesMut,
}

impl Keeping {
    async fn step(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        let Some(piece) = self.rest.try_next().await? else { return Ok(None) };
        let mut left = &piece[..];
        while self.kept.is_some() && !left.is_empty() {
            let (now, later) = left.split_at(left.len().min(PART - self.part.len()));
            self.part.extend_from_slice(now);
            left = later;
            if self.part.len() == PART {
                self.keep().await;
            }
        }
        Ok(Some((piece, self)))
    }

    async fn keep(&mut self) {
        let part = self.part.split().freeze();
        let length = part.len() as u64;
        let Some(kept) = &self.kept else { return };
        match kept.store.append(&kept.key, self.at, part).await {
            Ok(()) => self.at += length,
            Err(error) => {
                tracing::warn!(%error, "an upload can't resume: its parts could not be kept");
                self.kept = None;
            }
        }
    }
}
