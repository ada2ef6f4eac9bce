//! Capabilities, CAS and action cache.

use std::time::Duration;

use futures::stream::{self, BoxStream};
use grid_core::{Digest, DigestFunction};
use grid_proto::directories::GetTreeResponse;
use grid_proto::reapi::action_cache_server::ActionCache;
use grid_proto::reapi::capabilities_server::Capabilities;
use grid_proto::reapi::content_addressable_storage_server::ContentAddressableStorage;
use grid_proto::{any, reapi, rpc};
use prost::Message as _;
use tonic::{Code, Request, Response, Status, Streaming};

use super::Fake;

type Answer<T> = Result<Response<T>, Status>;

const ZSTD: i32 = reapi::compressor::Value::Zstd as i32;

#[tonic::async_trait]
impl Capabilities for Fake {
    async fn get_capabilities(
        &self,
        _: Request<reapi::GetCapabilitiesRequest>,
    ) -> Answer<reapi::ServerCapabilities> {
        let compressors = if self.state().zstd { vec![ZSTD] } else { vec![] };
        let cache = reapi::CacheCapabilities {
            digest_functions: vec![DigestFunction::Sha256.to_wire()],
            supported_compressors: compressors.clone(),
            supported_batch_update_compressors: compressors,
            max_cas_blob_size_bytes: 50 << 20,
            ..Default::default()
        };
        Ok(Response::new(reapi::ServerCapabilities { cache_capabilities: Some(cache), ..Default::default() }))
    }
}

#[tonic::async_trait]
impl ContentAddressableStorage for Fake {
    type GetTreeStream = BoxStream<'static, Result<GetTreeResponse, Status>>;
    type GetChunkMappingStream = BoxStream<'static, Result<reapi::GetChunkMappingResponse, Status>>;

    async fn find_missing_blobs(
        &self,
        request: Request<reapi::FindMissingBlobsRequest>,
    ) -> Answer<reapi::FindMissingBlobsResponse> {
        let mut state = self.state();
        if state.refusals > 0 {
            state.refusals -= 1;
            return Err(later());
        }
        let mut missing = request.into_inner().blob_digests;
        missing.retain(|digest| !state.blobs.contains_key(&digest.hash));
        Ok(Response::new(reapi::FindMissingBlobsResponse { missing_blob_digests: missing }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<reapi::BatchUpdateBlobsRequest>,
    ) -> Answer<reapi::BatchUpdateBlobsResponse> {
        assert!(request.get_ref().encoded_len() <= 4 << 20, "larger than what gRPC peers take");
        let mut responses = Vec::new();
        for blob in request.into_inner().requests {
            let digest = blob.digest.unwrap();
            let data = if blob.compressor == ZSTD { unpacked(&blob.data) } else { blob.data };
            assert_eq!(Digest::of(DigestFunction::Sha256, &data).hash_hex(), digest.hash);
            self.state().blobs.insert(digest.hash.clone(), data);
            responses
                .push(reapi::batch_update_blobs_response::Response { digest: Some(digest), status: None });
        }
        Ok(Response::new(reapi::BatchUpdateBlobsResponse { responses }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<reapi::BatchReadBlobsRequest>,
    ) -> Answer<reapi::BatchReadBlobsResponse> {
        let request = request.into_inner();
        let zstd = request.acceptable_compressors.contains(&ZSTD);
        let state = self.state();
        let read = |digest: reapi::Digest| {
            let mut response = reapi::batch_read_blobs_response::Response::default();
            match state.blobs.get(&digest.hash) {
                None => {
                    let gone = rpc::Status { code: 5, message: "gone".into(), ..Default::default() };
                    response.status = Some(gone);
                }
                Some(_) if state.corrupt => response.data = vec![b'!'; 3].into(),
                Some(data) if zstd => {
                    response.data = zstd::bulk::compress(data, 1).unwrap().into();
                    response.compressor = ZSTD;
                }
                Some(data) => response.data = data.clone(),
            }
            response.digest = Some(digest);
            response
        };
        let responses = request.digests.into_iter().map(read).collect();
        Ok(Response::new(reapi::BatchReadBlobsResponse { responses }))
    }

    /// One directory a call, so that clients have to follow the token.
    async fn get_tree(&self, request: Request<reapi::GetTreeRequest>) -> Answer<Self::GetTreeStream> {
        let request = request.into_inner();
        let mut open = vec![request.root_digest.unwrap().hash];
        let mut all = Vec::new();
        while let Some(hash) = open.pop() {
            let Some(content) = self.state().blobs.get(&hash).cloned() else {
                return Err(Status::not_found(hash));
            };
            let directory = reapi::Directory::decode(content.clone()).unwrap();
            open.extend(directory.directories.iter().map(|node| node.digest.clone().unwrap().hash));
            all.push(content);
        }
        let index: usize = request.page_token.parse().unwrap_or(0);
        let next = index + 1;
        let next_page_token = if next < all.len() { next.to_string() } else { String::new() };
        let page = GetTreeResponse { directories: vec![all.swap_remove(index)], next_page_token };
        Ok(Response::new(Box::pin(stream::iter([Ok(page)]))))
    }

    async fn split_blob(&self, _: Request<reapi::SplitBlobRequest>) -> Answer<reapi::SplitBlobResponse> {
        Err(Status::unimplemented(""))
    }

    async fn splice_blob(&self, _: Request<reapi::SpliceBlobRequest>) -> Answer<reapi::SpliceBlobResponse> {
        Err(Status::unimplemented(""))
    }

    async fn get_chunk_mapping(
        &self,
        _: Request<reapi::GetChunkMappingRequest>,
    ) -> Answer<Self::GetChunkMappingStream> {
        Err(Status::unimplemented(""))
    }

    async fn register_chunk_mapping(
        &self,
        _: Request<Streaming<reapi::RegisterChunkMappingRequest>>,
    ) -> Answer<reapi::RegisterChunkMappingResponse> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl ActionCache for Fake {
    async fn get_action_result(
        &self,
        request: Request<reapi::GetActionResultRequest>,
    ) -> Answer<reapi::ActionResult> {
        let hash = request.into_inner().action_digest.unwrap().hash;
        let found = self.state().results.get(&hash).cloned();
        found.map(Response::new).ok_or_else(|| Status::not_found("no such result"))
    }

    async fn update_action_result(
        &self,
        request: Request<reapi::UpdateActionResultRequest>,
    ) -> Answer<reapi::ActionResult> {
        let request = request.into_inner();
        let result = request.action_result.unwrap();
        self.state().results.insert(request.action_digest.unwrap().hash, result.clone());
        Ok(Response::new(result))
    }
}

fn later() -> Status {
    let info = rpc::RetryInfo { retry_delay: Some(Duration::from_millis(1).try_into().unwrap()) };
    let details = rpc::Status { code: 8, details: vec![any::pack(&info)], ..Default::default() };
    Status::with_details(Code::ResourceExhausted, "later", details.encode_to_vec().into())
}

/// The content of a zstd frame.
pub(super) fn unpacked(data: &[u8]) -> bytes::Bytes {
    zstd::stream::decode_all(data).unwrap().into()
}
