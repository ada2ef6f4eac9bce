//! `BatchUpdateBlobs` and `BatchReadBlobs`: many small blobs in one message.
//!
//! Each blob has an answer of its own, in the order asked; only what concerns the whole request (the instance, the
//! digest function, the total size) fails the call. What is sound goes to the store as one batch.

use bytes::Bytes;
use grid_cas::StoreError;
use grid_core::{Coded, Digest};
use grid_proto::reapi::batch_read_blobs_response::Response as ReadResponse;
use grid_proto::reapi::batch_update_blobs_request::Request as UpdateRequest;
use grid_proto::reapi::batch_update_blobs_response::Response as UpdateResponse;
use grid_proto::reapi::compressor::Value as Compressor;
use grid_proto::reapi::{
    self, BatchReadBlobsRequest, BatchReadBlobsResponse, BatchUpdateBlobsRequest, BatchUpdateBlobsResponse,
};
use grid_proto::rpc;
use tonic::Status;

use super::CasInstance;
use crate::RpcError;
use crate::compression::{Compression, compress, decompress};
use crate::digests::Reader;
use crate::error::{ok_status, status, to_rpc_status};

/// Blobs below this many bytes are not worth compressing.
const COMPRESS_FROM: usize = 1 << 10;

fn check_total(
    instance: &CasInstance,
    field: &str,
    sizes: impl Iterator<Item = i64>,
) -> Result<(), RpcError> {
    let total = sizes.map(|s| u64::try_from(s).unwrap_or(0)).fold(0, u64::saturating_add);
    if total > instance.max_batch_bytes {
        let limit = instance.max_batch_bytes;
        let problem = format!("hold {total} bytes of blobs; a batch takes {limit}; use ByteStream for more");
        return Err(RpcError::field(field, problem));
    }
    Ok(())
}

pub(super) async fn update(
    instance: &CasInstance,
    request: BatchUpdateBlobsRequest,
) -> Result<BatchUpdateBlobsResponse, Status> {
    let reader = Reader::new(request.digest_function, &instance.functions).map_err(status)?;
    if instance.read_only {
        return Err(status(StoreError::ReadOnly));
    }
    let announced = request.requests.iter().map(|r| r.digest.as_ref().map_or(0, |d| d.size_bytes));
    check_total(instance, "requests", announced).map_err(status)?;
    let sent = request.requests.iter().map(|r| i64::try_from(r.data.len()).unwrap_or(i64::MAX));
    check_total(instance, "requests", sent).map_err(status)?;

    let mut responses = Vec::with_capacity(request.requests.len());
    let mut blobs = Vec::with_capacity(request.requests.len());
    let mut places = Vec::with_capacity(request.requests.len());
    for (place, mut one) in request.requests.into_iter().enumerate() {
        let digest = one.digest.take();
        let status = match blob(instance, &reader, digest.as_ref(), one) {
            Ok(blob) => {
                blobs.push(blob);
                places.push(place);
                None
            }
            Err(refused) => Some(refused),
        };
        responses.push(UpdateResponse { digest, status });
    }
    let results = instance.store.write_batch(blobs).await;
    for (place, result) in places.into_iter().zip(results) {
        responses[place].status = Some(outcome(&result));
    }
    Ok(BatchUpdateBlobsResponse { responses })
}

fn outcome<T, E: Coded>(result: &Result<T, E>) -> rpc::Status {
    match result {
        Ok(_) => ok_status(),
        Err(error) => to_rpc_status(error),
    }
}

/// The blob of one request, unpacked.
fn blob(
    instance: &CasInstance,
    reader: &Reader<'_>,
    digest: Option<&reapi::Digest>,
    one: UpdateRequest,
) -> Result<(Digest, Bytes), rpc::Status> {
    let refuse = |error: RpcError| to_rpc_status(&error);
    let digest = reader.required("requests.digest", digest).map_err(refuse)?;
    if let Some(limit) = instance.max_blob_bytes.filter(|limit| digest.size() > *limit) {
        let backend = "instance".into();
        return Err(to_rpc_status(&StoreError::TooLarge { digest, limit, backend }));
    }
    let content = match Compression::from_wire(one.compressor) {
        Some(Compression::Identity) => one.data,
        Some(Compression::Zstd) => decompress(&digest, &one.data).map_err(|e| to_rpc_status(&e))?,
        None => {
            let problem = format!("{} is not supported; IDENTITY and ZSTD are", one.compressor);
            return Err(refuse(RpcError::field("requests.compressor", problem)));
        }
    };
    if content.len() as u64 != digest.size() {
        let actual = content.len() as u64;
        return Err(to_rpc_status(&StoreError::SizeMismatch { expected: digest, actual }));
    }
    Ok((digest, content))
}

pub(super) async fn read(
    instance: &CasInstance,
    request: BatchReadBlobsRequest,
) -> Result<BatchReadBlobsResponse, Status> {
    let reader = Reader::new(request.digest_function, &instance.functions).map_err(status)?;
    check_total(instance, "digests", request.digests.iter().map(|d| d.size_bytes)).map_err(status)?;
    let zstd = request.acceptable_compressors.contains(&(Compressor::Zstd as i32));

    let mut responses = Vec::with_capacity(request.digests.len());
    let mut digests = Vec::with_capacity(request.digests.len());
    let mut places = Vec::with_capacity(request.digests.len());
    for (place, wire) in request.digests.into_iter().enumerate() {
        let status = match reader.read("digests", &wire) {
            Ok(digest) => {
                digests.push(digest);
                places.push(place);
                None
            }
            Err(error) => Some(to_rpc_status(&error)),
        };
        responses.push(ReadResponse { digest: Some(wire), status, ..ReadResponse::default() });
    }
    let results = instance.store.read_batch(&digests).await;
    for (place, result) in places.into_iter().zip(results) {
        let response = &mut responses[place];
        response.status = Some(outcome(&result));
        if let Ok(content) = result {
            (response.data, response.compressor) = pack(content, zstd);
        }
    }
    Ok(BatchReadBlobsResponse { responses })
}

fn pack(content: Bytes, zstd: bool) -> (Bytes, i32) {
    let packed = (zstd && content.len() >= COMPRESS_FROM).then(|| compress(&content)).flatten();
    match packed {
        Some(packed) => (packed, Compressor::Zstd as i32),
        None => (content, Compressor::Identity as i32),
    }
}
