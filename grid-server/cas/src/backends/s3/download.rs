//! Objects on their way to a reader. A transfer that breaks off goes on where it was.

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream as Body;
use bytes::Bytes;
use futures::stream;
use grid_core::Digest;

use super::{Place, S3};
use crate::form::Form;
use crate::s3_client::Fault;
use crate::{ByteStream, StoreError};

/// How often a transfer may break off without a byte in between.
const BREAKS: u32 = 3;

/// Some bytes of an object of so many.
#[derive(Clone, Copy)]
struct Part {
    start: u64,
    end: u64,
    of: u64,
}

/// A transfer: what is open, and which bytes are still to come.
struct Transfer {
    store: S3,
    digest: Digest,
    place: Place,
    body: Body,
    left: Part,
    breaks: u32,
}

/// The bytes of a blob from `start` to `end`, of which there is at least one; of a packed one all that are stored.
pub(super) async fn read(store: S3, digest: Digest, start: u64, end: u64) -> Result<ByteStream, StoreError> {
    let place = store.place(&digest);
    let wanted = (store.form() == Form::Plain).then_some(Part { start, end, of: digest.size() });
    let (body, left) = open(&store, &digest, &place, wanted).await?;
    let transfer = Transfer { store, digest, place, body, left, breaks: 0 };
    Ok(Box::pin(stream::try_unfold(transfer, |mut transfer| async move {
        Ok(transfer.next().await?.map(|piece| (piece, transfer)))
    })))
}

impl Transfer {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        while self.left.start < self.left.end {
            let limit = self.store.connection().read_limit(self.left.end - self.left.start);
            let trouble = match tokio::time::timeout(limit, self.body.next()).await {
                Ok(Some(Ok(piece))) if piece.is_empty() => continue,
                Ok(Some(Ok(piece))) => {
                    self.left.start += piece.len() as u64;
                    self.breaks = 0;
                    let too_long = self.left.start > self.left.end;
                    return if too_long { Err(corrupt(&self.store, &self.digest)) } else { Ok(Some(piece)) };
                }
                Ok(Some(Err(error))) => error.to_string(),
                Ok(None) => "the object ended too soon".to_owned(),
                Err(_) => format!("nothing came for {limit:?}"),
            };
            self.breaks += 1;
            if self.breaks > BREAKS {
                return Err(self.store.connection().unavailable(trouble));
            }
            (self.body, self.left) = open(&self.store, &self.digest, &self.place, Some(self.left)).await?;
        }
        Ok(None)
    }
}

fn corrupt(store: &S3, digest: &Digest) -> StoreError {
    StoreError::Corrupt { digest: *digest, backend: store.connection().name().clone() }
}

/// A part of an object, or all of it, however long it is.
async fn open(
    store: &S3,
    digest: &Digest,
    place: &Place,
    wanted: Option<Part>,
) -> Result<(Body, Part), StoreError> {
    let connection = store.connection();
    let range = wanted.filter(|part| part.start > 0 || part.end < part.of);
    let range = range.map(|part| format!("bytes={}-{}", part.start, part.end - 1));
    let request = || {
        let request = connection.client().get_object().bucket(&place.bucket).key(&place.key);
        request.set_range(range.clone()).send()
    };
    let bytes = wanted.map_or(0, |part| part.end - part.start);
    match connection.call(connection.read_limit(bytes), request).await {
        Ok(answer) => match (given(&answer), wanted) {
            (Some(given), None) if given > 0 => Ok((answer.body, Part { start: 0, end: given, of: given })),
            (Some(given), Some(part)) if given == bytes && total(&answer) == Some(part.of) => {
                Ok((answer.body, part))
            }
            _ => Err(corrupt(store, digest)),
        },
        Err(Fault::Absent) => Err(store.not_found(digest, place).await),
        Err(fault) => Err(store.error(fault)),
    }
}

/// How many bytes an answer gives.
fn given(answer: &GetObjectOutput) -> Option<u64> {
    u64::try_from(answer.content_length()?).ok()
}

/// How many bytes the object has that an answer is of.
fn total(answer: &GetObjectOutput) -> Option<u64> {
    let total = answer.content_range().and_then(|range| range.rsplit_once('/')?.1.parse().ok());
    total.or_else(|| given(answer))
}
