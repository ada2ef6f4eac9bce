//! Reading a blob: from the store's pieces to messages, compressed where the name says so.

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use grid_cas::{ByteRange, SharedStore, StoreError};
use grid_proto::bytestream::{ReadRequest, ReadResponse};
use tonic::Status;

use super::ReadMessages;
use super::name::Blob;
use crate::compression::{Compression, compress_stream};
use crate::error::status;
use crate::{RpcError, to_status};

/// The most bytes in one message: well below what clients take unless told otherwise, 4 MiB.
const MESSAGE: usize = 1 << 20;

/// The messages that answer `request`.
pub(super) async fn read(
    store: &SharedStore,
    blob: &Blob<'_>,
    request: &ReadRequest,
) -> Result<ReadMessages, Status> {
    let range = range(blob, request).map_err(status)?;
    let plain = store.read(&blob.digest, range).await.map_err(status)?;
    let content = match blob.compression {
        Compression::Identity => plain,
        Compression::Zstd => compress_stream(blob.digest.size() - range.offset, plain).map_err(status)?,
    };
    Ok(Box::pin(content.flat_map(messages)))
}

/// Offsets and limits as the ByteStream API has them; compressed reads take no limit (REAPI).
fn range(blob: &Blob<'_>, request: &ReadRequest) -> Result<ByteRange, RpcError> {
    let size = blob.digest.size();
    let offset = u64::try_from(request.read_offset)
        .map_err(|_| RpcError::OutOfRange(format!("read_offset {} is negative", request.read_offset)))?;
    if offset > size {
        return Err(RpcError::OutOfRange(format!("read_offset {offset} is past the blob's end at {size}")));
    }
    let limit = u64::try_from(request.read_limit)
        .map_err(|_| RpcError::field("read_limit", format!("{} is negative", request.read_limit)))?;
    if limit > 0 && blob.compression != Compression::Identity {
        return Err(RpcError::field("read_limit", "must be 0 where the blob is read compressed"));
    }
    Ok(ByteRange { offset, limit: (limit > 0).then_some(limit) })
}

fn messages(
    piece: Result<Bytes, StoreError>,
) -> stream::Iter<impl Iterator<Item = Result<ReadResponse, Status>> + Send> {
    let (mut rest, mut error) = match piece {
        Ok(piece) => (piece, None),
        Err(error) => (Bytes::new(), Some(to_status(&error))),
    };
    stream::iter(std::iter::from_fn(move || {
        if let Some(error) = error.take() {
            return Some(Err(error));
        }
        let data = rest.split_to(MESSAGE.min(rest.len()));
        (!data.is_empty()).then_some(Ok(ReadResponse { data }))
    }))
}
