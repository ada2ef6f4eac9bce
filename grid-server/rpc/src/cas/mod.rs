//! `ContentAddressableStorage`: blobs in batches, directory trees, chunks of large blobs.
//!
//! [`batch`] reads and writes small blobs, [`tree`] walks directories, [`chunking`] splits and splices. Hashes are
//! checked by the store's `verify` decorator and nowhere here.

mod batch;
mod chunking;
pub mod fastcdc;
pub mod tree;

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, TryStreamExt as _};
use grid_cas::SharedStore;
use grid_core::{Step, Stopwatch};
use grid_proto::directories::GetTreeResponse;
use grid_proto::reapi::content_addressable_storage_server::ContentAddressableStorage;
use grid_proto::reapi::{
    BatchReadBlobsRequest, BatchReadBlobsResponse, BatchUpdateBlobsRequest, BatchUpdateBlobsResponse,
    FindMissingBlobsRequest, FindMissingBlobsResponse, GetChunkMappingRequest, GetChunkMappingResponse,
    GetTreeRequest, RegisterChunkMappingRequest, RegisterChunkMappingResponse, SpliceBlobRequest,
    SpliceBlobResponse, SplitBlobRequest, SplitBlobResponse,
};
use tonic::{Request, Response, Status, Streaming};

pub use chunking::{Chunking, ChunkingOptions};

use crate::Instances;
use crate::digests::{Functions, Reader, to_wire};
use crate::error::{code_of, status};
use crate::steps::timed;

/// What the CAS service needs to know of one instance.
#[derive(Clone, Debug)]
pub struct CasInstance {
    /// Where blobs are; `verify` stands outermost in it.
    pub store: SharedStore,
    /// Whether writes are refused.
    pub read_only: bool,
    /// The digest functions that the instance takes.
    pub functions: Functions,
    /// The most bytes of blobs that one batch call may carry.
    pub max_batch_bytes: u64,
    /// The largest blob that the instance takes, in bytes.
    pub max_blob_bytes: Option<u64>,
    /// How far one `GetTree` may go.
    pub tree: tree::TreeLimits,
    /// Splitting and splicing, where the instance does it.
    pub chunking: Option<Arc<Chunking>>,
}

/// The `ContentAddressableStorage` service.
#[derive(Clone, Debug)]
pub struct CasService {
    instances: Instances<CasInstance>,
}

impl CasService {
    /// A service over the instances that have a CAS.
    #[must_use]
    pub const fn new(instances: Instances<CasInstance>) -> Self {
        Self { instances }
    }

    async fn instance(&self, name: &str) -> Result<&Arc<CasInstance>, Status> {
        self.instances.get(name).await.map_err(status)
    }
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ContentAddressableStorage for CasService {
    type GetTreeStream = Messages<GetTreeResponse>;
    type GetChunkMappingStream = Messages<GetChunkMappingResponse>;

    async fn find_missing_blobs(
        &self,
        request: Request<FindMissingBlobsRequest>,
    ) -> Result<Response<FindMissingBlobsResponse>, Status> {
        let request = request.into_inner();
        let instance = self.instance(&request.instance_name).await?;
        let reader = Reader::new(request.digest_function, &instance.functions).map_err(status)?;
        let mut digests = Vec::with_capacity(request.blob_digests.len());
        for digest in &request.blob_digests {
            digests.push(reader.read("blob_digests", digest).map_err(status)?);
        }
        let missing = instance.store.find_missing(&digests).await.map_err(status)?;
        let missing_blob_digests = missing.iter().map(to_wire).collect();
        Ok(Response::new(FindMissingBlobsResponse { missing_blob_digests }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<BatchUpdateBlobsRequest>,
    ) -> Result<Response<BatchUpdateBlobsResponse>, Status> {
        let request = request.into_inner();
        let instance = self.instance(&request.instance_name).await?;
        batch::update(instance, request).await.map(Response::new)
    }

    async fn batch_read_blobs(
        &self,
        request: Request<BatchReadBlobsRequest>,
    ) -> Result<Response<BatchReadBlobsResponse>, Status> {
        let request = request.into_inner();
        let instance = self.instance(&request.instance_name).await?;
        batch::read(instance, request).await.map(Response::new)
    }

    async fn get_tree(
        &self,
        request: Request<GetTreeRequest>,
    ) -> Result<Response<Self::GetTreeStream>, Status> {
        let request = request.into_inner();
        let instance = self.instance(&request.instance_name).await?;
        let mut walk = Stopwatch::start(Step::GetTree);
        let pages = tree::get(instance, &request).await.inspect_err(|error| walk.note(code_of(error)))?;
        walk.note(None);
        let pages = pages.inspect_err(move |error| walk.note(code_of(error)));
        Ok(Response::new(Box::pin(pages)))
    }

    async fn split_blob(
        &self,
        request: Request<SplitBlobRequest>,
    ) -> Result<Response<SplitBlobResponse>, Status> {
        let request = request.into_inner();
        let instance = self.instance(&request.instance_name).await?;
        let split = chunking::split(instance, request.digest_function, request.blob_digest.as_ref());
        let chunks = timed(Step::Split, split).await?;
        Ok(Response::new(SplitBlobResponse {
            chunk_digests: chunks.iter().map(to_wire).collect(),
            chunking_function: chunking::FUNCTION,
        }))
    }

    async fn get_chunk_mapping(
        &self,
        request: Request<GetChunkMappingRequest>,
    ) -> Result<Response<Self::GetChunkMappingStream>, Status> {
        let request = request.into_inner();
        let instance = self.instance(&request.instance_name).await?;
        let split = chunking::split(instance, request.digest_function, request.blob_digest.as_ref());
        let chunks = timed(Step::Split, split).await?;
        Ok(Response::new(Box::pin(chunking::pages(chunks))))
    }

    async fn splice_blob(
        &self,
        request: Request<SpliceBlobRequest>,
    ) -> Result<Response<SpliceBlobResponse>, Status> {
        let request = request.into_inner();
        let instance = self.instance(&request.instance_name).await?;
        let reader = Reader::new(request.digest_function, &instance.functions).map_err(status)?;
        let mut splice = chunking::Splice::new(instance, &reader, request.blob_digest.as_ref())?;
        splice.add(&reader, &request.chunk_digests)?;
        let blob = timed(Step::Splice, splice.commit()).await?;
        Ok(Response::new(SpliceBlobResponse { blob_digest: Some(to_wire(&blob)) }))
    }

    async fn register_chunk_mapping(
        &self,
        request: Request<Streaming<RegisterChunkMappingRequest>>,
    ) -> Result<Response<RegisterChunkMappingResponse>, Status> {
        let mut messages = request.into_inner();
        let unset =
            || status(crate::RpcError::field("blob_digest", "is not set: the stream held no message"));
        let first = messages.message().await?.ok_or_else(unset)?;
        let instance = self.instance(&first.instance_name).await?;
        let reader = Reader::new(first.digest_function, &instance.functions).map_err(status)?;
        let mut splice = chunking::Splice::new(instance, &reader, first.blob_digest.as_ref())?;
        splice.add(&reader, &first.chunk_digests)?;
        while let Some(message) = messages.message().await? {
            splice.add(&reader, &message.chunk_digests)?;
        }
        let blob = timed(Step::Splice, splice.commit()).await?;
        Ok(Response::new(RegisterChunkMappingResponse { blob_digest: Some(to_wire(&blob)) }))
    }
}
