//! Uploads the blobs that the CAS lacks: small ones in batches, the others as streams.
//!
//! Neighbours: `collect` gives the blobs, `cas` carries them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Cursor, Read};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use grid_core::Digest;
use rustix::fd::OwnedFd;
use rustix::fs::OFlags;

use super::collect::open_beneath;
use super::{Blob, Content};
use crate::cas::Cas;
use crate::cas::plan::plan;
use crate::error::WorkerError;

/// Uploads under way at once for one action.
const PARALLEL_UPLOADS: usize = 8;

/// Uploads what is missing of `blobs`, whose files lie below `root`.
///
/// # Errors
/// [`WorkerError::Remote`], [`WorkerError::Local`].
pub async fn send(cas: &Cas, root: &Arc<OwnedFd>, blobs: Vec<Blob>) -> Result<(), WorkerError> {
    let mut contents: HashMap<Digest, Content> = HashMap::new();
    for blob in blobs {
        if blob.digest.size() > 0 {
            contents.insert(blob.digest, blob.content);
        }
    }
    if contents.is_empty() {
        return Ok(());
    }
    let digests: Vec<Digest> = contents.keys().copied().collect();
    let missing = cas.find_missing(&digests).await?;
    contents.retain(|digest, _| missing.contains(digest));
    let plan = plan(contents.keys().copied(), cas.capabilities().await?.batch_limit);
    let contents = &contents;
    let mut sends: Vec<BoxFuture<'_, _>> = Vec::new();
    sends.extend(plan.batches.into_iter().map(|batch| send_batch(cas, root, contents, batch).boxed()));
    sends.extend(plan.streams.into_iter().map(|digest| send_stream(cas, root, contents, digest).boxed()));
    stream::iter(sends).buffer_unordered(PARALLEL_UPLOADS).try_collect().await
}

async fn send_batch(
    cas: &Cas,
    root: &Arc<OwnedFd>,
    contents: &HashMap<Digest, Content>,
    batch: Vec<Digest>,
) -> Result<(), WorkerError> {
    let mut blobs = Vec::with_capacity(batch.len());
    for digest in batch {
        let content = match contents.get(&digest) {
            Some(Content::Memory(content)) => content.clone(),
            Some(file) => {
                let mut reader = open(root, file).map_err(unreadable)?;
                let read = tokio::task::spawn_blocking(move || {
                    let mut content = Vec::new();
                    reader.read_to_end(&mut content).map(|_| Bytes::from(content))
                });
                read.await.map_err(|error| WorkerError::Internal(error.to_string()))?.map_err(unreadable)?
            }
            None => continue,
        };
        blobs.push((digest, content));
    }
    cas.write_batch(&blobs).await
}

async fn send_stream(
    cas: &Cas,
    root: &Arc<OwnedFd>,
    contents: &HashMap<Digest, Content>,
    digest: Digest,
) -> Result<(), WorkerError> {
    let Some(content) = contents.get(&digest) else { return Ok(()) };
    cas.write_stream(&digest, || open(root, content)).await
}

fn open(root: &OwnedFd, content: &Content) -> std::io::Result<Box<dyn Read + Send>> {
    Ok(match content {
        Content::Memory(content) => Box::new(Cursor::new(content.clone())),
        Content::File(location) => {
            Box::new(File::from(open_beneath(root, location, OFlags::RDONLY | OFlags::NONBLOCK)?))
        }
    })
}

fn unreadable(error: std::io::Error) -> WorkerError {
    WorkerError::local("reading an output", error)
}
