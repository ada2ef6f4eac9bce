//! Content on its way into objects whose length nobody knows before it ends: packed blobs.
//!
//! A request says its length first, so each part is held before it is sent: in memory while there is room, in a temporary
//! file otherwise. So half-open uploads hold a bounded amount of memory here too, and none waits for another's.

use std::io;
use std::sync::Arc;

use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::ByteStream as Body;
use bytes::{Bytes, BytesMut};
use grid_core::Digest;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::OwnedSemaphorePermit;

use super::upload::{Multipart, PARTS, Source, put_body};
use super::{PART, S3};
use crate::{ByteStream, StoreError};

pub(super) async fn write(store: &S3, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
    // Packing makes little longer what it can't shrink.
    let longest = digest.size().saturating_add(digest.size() / 64 + 1_024);
    let part_size = PART.max(longest.div_ceil(PARTS.get()));
    let mut source = Source::new(content);
    let first = Held::gather(store, &mut source, part_size, longest).await?;
    if first.length < part_size {
        return put_body(store, digest, first.length, || first.body()).await;
    }
    let upload = Multipart::start(store, digest).await?;
    let (mut parts, mut held) = (Vec::new(), first);
    for number in 1.. {
        parts.push(upload.send_body(number, held.length, || held.body()).await?);
        // Before there is another, so that it has the room of this one.
        drop(held);
        held = Held::gather(store, &mut source, part_size, part_size).await?;
        if held.length == 0 {
            break;
        }
    }
    upload.complete(parts).await
}

/// A part that has come.
struct Held {
    length: u64,
    place: Place,
}

enum Place {
    Memory(Bytes, #[allow(dead_code, reason = "held for as long as the bytes")] OwnedSemaphorePermit),
    File(NamedTempFile),
}

impl Held {
    /// The next `most` bytes, or all that are left; no more than `longest` are expected.
    async fn gather(store: &S3, source: &mut Source, most: u64, longest: u64) -> Result<Self, StoreError> {
        match store.buffer(most.min(longest)) {
            Some(room) => {
                let mut all = BytesMut::new();
                while (all.len() as u64) < most {
                    let piece = source.piece(most - all.len() as u64).await?;
                    if piece.is_empty() {
                        break;
                    }
                    all.extend_from_slice(&piece);
                }
                Ok(Self { length: all.len() as u64, place: Place::Memory(all.freeze(), room) })
            }
            None => Self::gather_in_a_file(store, source, most).await,
        }
    }

    async fn gather_in_a_file(store: &S3, source: &mut Source, most: u64) -> Result<Self, StoreError> {
        let trouble = |error: io::Error| StoreError::Unavailable {
            backend: Arc::clone(store.connection().name()),
            message: format!("a temporary file for an upload: {error}"),
            retry_after: None,
        };
        let made = tokio::task::spawn_blocking(NamedTempFile::new).await;
        let file = made.map_err(io::Error::other).flatten().map_err(trouble)?;
        let mut to = tokio::fs::File::from_std(file.reopen().map_err(trouble)?);
        let mut length = 0;
        while length < most {
            let piece = source.piece(most - length).await?;
            if piece.is_empty() {
                break;
            }
            length += piece.len() as u64;
            to.write_all(&piece).await.map_err(trouble)?;
        }
        to.flush().await.map_err(trouble)?;
        Ok(Self { length, place: Place::File(file) })
    }

    async fn body(&self) -> Result<Body, BoxError> {
        match &self.place {
            Place::Memory(bytes, _) => Ok(Body::from(bytes.clone())),
            Place::File(file) => Ok(Body::from_path(file.path()).await?),
        }
    }
}
