//! Objects on their way to a reader. A transfer that breaks off goes on where it was.

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream as Body;
use bytes::Bytes;
use futures::stream;
use grid_core::Digest;

use super::{Place, S3};
use crate::s3_client::Fault;
use crate::{ByteStream, StoreError};

/// How often a transfer may break off without a byte in between.
const BREAKS: u32 = 3;

/// A transfer: what is open, and which bytes are still to come.
struct Transfer {
    store: S3,
    digest: Digest,
    place: Place,
    body: Body,
    position: u64,
    end: u64,
    breaks: u32,
}

/// The bytes of a blob from `start` to `end`; there is at least one.
pub(super) async fn read(store: S3, digest: Digest, start: u64, end: u64) -> Result<ByteStream, StoreError> {
    let place = store.place(&digest);
    let body = open(&store, &digest, &place, start, end).await?;
    let transfer = Transfer { store, digest, place, body, position: start, end, breaks: 0 };
    Ok(Box::pin(stream::try_unfold(transfer, |mut transfer| async move {
        Ok(transfer.next().await?.map(|piece| (piece, transfer)))
    })))
}

impl Transfer {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        while self.position < self.end {
            let limit = self.store.connection().read_limit(self.end - self.position);
            let trouble = match tokio::time::timeout(limit, self.body.next()).await {
                Ok(Some(Ok(piece))) if piece.is_empty() => continue,
                Ok(Some(Ok(piece))) => {
                    self.position += piece.len() as u64;
                    self.breaks = 0;
                    return if self.position > self.end { Err(self.corrupt()) } else { Ok(Some(piece)) };
                }
                Ok(Some(Err(error))) => error.to_string(),
                Ok(None) => "the object ended too soon".to_owned(),
                Err(_) => format!("nothing came for {limit:?}"),
            };
            self.breaks += 1;
            if self.breaks > BREAKS {
                return Err(self.store.connection().unavailable(trouble));
            }
            self.body = open(&self.store, &self.digest, &self.place, self.position, self.end).await?;
        }
        Ok(None)
    }

    fn corrupt(&self) -> StoreError {
        corrupt(&self.store, &self.digest)
    }
}

fn corrupt(store: &S3, digest: &Digest) -> StoreError {
    StoreError::Corrupt { digest: *digest, backend: store.connection().name().clone() }
}

async fn open(store: &S3, digest: &Digest, place: &Place, start: u64, end: u64) -> Result<Body, StoreError> {
    let (connection, whole) = (store.connection(), start == 0 && end == digest.size());
    let range = (!whole).then(|| format!("bytes={start}-{}", end - 1));
    let request = || {
        let request = connection.client().get_object().bucket(&place.bucket).key(&place.key);
        request.set_range(range.clone()).send()
    };
    match connection.call(connection.read_limit(end - start), request).await {
        Ok(answer) if is_of(&answer, digest, end - start) => Ok(answer.body),
        Ok(_) => Err(corrupt(store, digest)),
        Err(Fault::Absent) => Err(store.not_found(digest, place).await),
        Err(fault) => Err(store.error(fault)),
    }
}

/// Whether an answer gives so many bytes, of an object that has the blob's size.
fn is_of(answer: &GetObjectOutput, digest: &Digest, length: u64) -> bool {
    let total = answer.content_range().and_then(|range| range.rsplit_once('/')?.1.parse().ok());
    let total = total.unwrap_or_else(|| answer.content_length().unwrap_or(-1));
    let length_fits = answer.content_length().and_then(|given| u64::try_from(given).ok()) == Some(length);
    total == digest.size_signed() && length_fits
}
