//! Capabilities, CAS and ByteStream of a test's grid, over the blobs in its memory.

use futures::stream;
use grid_proto::bytestream::byte_stream_server::ByteStream;
use grid_proto::bytestream::*;
use grid_proto::directories::GetTreeResponse;
use grid_proto::reapi::capabilities_server::Capabilities;
use grid_proto::reapi::content_addressable_storage_server::ContentAddressableStorage;
use grid_proto::reapi::*;
use grid_proto::rpc;
use prost::Message;
use tonic::{Code, Request, Response, Status};

use super::server::{Answers, FakeGrid, key};

const ZSTD: i32 = compressor::Value::Zstd as i32;

impl FakeGrid {
    fn batch_limit(&self) -> usize {
        self.state.lock().batch_limit.unwrap_or(1 << 20)
    }

    fn within_limit(&self, sizes: impl Iterator<Item = i64>) -> Result<(), Status> {
        let (total, limit) = (sizes.sum::<i64>(), i64::try_from(self.batch_limit()).unwrap());
        if total > limit { Err(Status::invalid_argument("the batch is too large")) } else { Ok(()) }
    }
}

#[tonic::async_trait]
impl Capabilities for FakeGrid {
    async fn get_capabilities(
        &self,
        _: Request<GetCapabilitiesRequest>,
    ) -> Result<Response<ServerCapabilities>, Status> {
        self.called("GetCapabilities")?;
        let offered = if self.state.lock().zstd { vec![ZSTD] } else { Vec::new() };
        let cache = CacheCapabilities {
            digest_functions: vec![1],
            max_batch_total_size_bytes: i64::try_from(self.batch_limit()).unwrap(),
            supported_compressors: offered.clone(),
            supported_batch_update_compressors: offered,
            ..CacheCapabilities::default()
        };
        Ok(Response::new(ServerCapabilities { cache_capabilities: Some(cache), ..Default::default() }))
    }
}

#[tonic::async_trait]
impl ContentAddressableStorage for FakeGrid {
    type GetTreeStream = Answers<GetTreeResponse>;
    type GetChunkMappingStream = Answers<GetChunkMappingResponse>;

    async fn get_chunk_mapping(
        &self,
        _: Request<GetChunkMappingRequest>,
    ) -> Result<Response<Self::GetChunkMappingStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn register_chunk_mapping(
        &self,
        _: Request<tonic::Streaming<RegisterChunkMappingRequest>>,
    ) -> Result<Response<RegisterChunkMappingResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn find_missing_blobs(
        &self,
        request: Request<FindMissingBlobsRequest>,
    ) -> Result<Response<FindMissingBlobsResponse>, Status> {
        self.called("FindMissingBlobs")?;
        let state = self.state.lock();
        let mut missing_blob_digests = request.into_inner().blob_digests;
        missing_blob_digests.retain(|digest| !state.blobs.contains_key(&key(digest)));
        Ok(Response::new(FindMissingBlobsResponse { missing_blob_digests }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<BatchUpdateBlobsRequest>,
    ) -> Result<Response<BatchUpdateBlobsResponse>, Status> {
        self.called("BatchUpdateBlobs")?;
        let mut responses = Vec::new();
        let size = |blob: &batch_update_blobs_request::Request| blob.digest.clone().unwrap().size_bytes;
        self.within_limit(request.get_ref().requests.iter().map(size))?;
        for blob in request.into_inner().requests {
            let content = if blob.compressor == ZSTD {
                self.state.lock().compressed += 1;
                zstd::decode_all(&*blob.data).unwrap()
            } else {
                blob.data.to_vec()
            };
            let digest = self.put(&content);
            assert_eq!(Some(&digest), blob.digest.as_ref(), "an upload with a wrong digest");
            responses.push(batch_update_blobs_response::Response { digest: Some(digest), status: None });
        }
        Ok(Response::new(BatchUpdateBlobsResponse { responses }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<BatchReadBlobsRequest>,
    ) -> Result<Response<BatchReadBlobsResponse>, Status> {
        self.called("BatchReadBlobs")?;
        self.within_limit(request.get_ref().digests.iter().map(|digest| digest.size_bytes))?;
        let mut state = self.state.lock();
        let zstd = state.zstd && request.get_ref().acceptable_compressors.contains(&ZSTD);
        state.compressed += usize::from(zstd);
        let answer = |digest: Digest| {
            let key = key(&digest);
            let found = state.corrupt.get(&key).or_else(|| state.blobs.get(&key)).cloned();
            let code = if found.is_some() { Code::Ok } else { Code::NotFound };
            let status = Some(rpc::Status { code: code.into(), ..Default::default() });
            let data = found.unwrap_or_default();
            let (data, compressor) =
                if zstd { (zstd::encode_all(&*data, 0).unwrap().into(), ZSTD) } else { (data, 0) };
            batch_read_blobs_response::Response { digest: Some(digest), data, status, compressor }
        };
        let responses = request.into_inner().digests.into_iter().map(answer).collect();
        Ok(Response::new(BatchReadBlobsResponse { responses }))
    }

    async fn get_tree(
        &self,
        request: Request<GetTreeRequest>,
    ) -> Result<Response<Self::GetTreeStream>, Status> {
        self.called("GetTree")?;
        let mut open = vec![request.into_inner().root_digest.unwrap()];
        let mut directories = Vec::new();
        while let Some(digest) = open.pop() {
            let blob = self.state.lock().blobs.get(&key(&digest)).cloned();
            let Some(blob) = blob else { continue };
            let directory = Directory::decode(blob.clone()).unwrap();
            open.extend(directory.directories.iter().filter_map(|d| d.digest.clone()));
            directories.push(blob);
        }
        let page = GetTreeResponse { directories, next_page_token: String::new() };
        Ok(Response::new(Box::pin(stream::iter([Ok(page)]))))
    }

    async fn split_blob(&self, _: Request<SplitBlobRequest>) -> Result<Response<SplitBlobResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn splice_blob(
        &self,
        _: Request<SpliceBlobRequest>,
    ) -> Result<Response<SpliceBlobResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl ByteStream for FakeGrid {
    type ReadStream = Answers<ReadResponse>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        self.called("Read")?;
        let ReadRequest { resource_name: name, read_offset, .. } = request.into_inner();
        let key = name.strip_prefix("blobs/").ok_or_else(|| Status::invalid_argument(name.clone()))?;
        let mut state = self.state.lock();
        state.read_offsets.push(read_offset);
        let blob = state.corrupt.get(key).or_else(|| state.blobs.get(key)).cloned();
        let blob = blob.ok_or_else(|| Status::not_found(name.clone()))?;
        let blob = blob.slice(usize::try_from(read_offset).unwrap()..);
        let mut pieces: Vec<_> =
            blob.chunks(100_000).map(|c| Ok(ReadResponse { data: blob.slice_ref(c) })).collect();
        if state.broken_reads > 0 {
            state.broken_reads -= 1;
            state.corrupt.remove(key);
            pieces.truncate(1);
            pieces.push(Err(Status::unavailable("the call breaks")));
        }
        Ok(Response::new(Box::pin(stream::iter(pieces))))
    }

    async fn write(
        &self,
        request: Request<tonic::Streaming<WriteRequest>>,
    ) -> Result<Response<WriteResponse>, Status> {
        self.called("Write")?;
        let mut pieces = request.into_inner();
        let (mut name, mut content) = (String::new(), Vec::new());
        while let Some(piece) = pieces.message().await? {
            if name.is_empty() {
                name = piece.resource_name;
                let stream = self.state.lock().streams.get(&name).cloned();
                content = stream.map(|(written, _)| written).unwrap_or_default();
            }
            assert_eq!(piece.write_offset, i64::try_from(content.len()).unwrap());
            content.extend_from_slice(&piece.data);
            if !name.starts_with("uploads/") {
                let mut state = self.state.lock();
                if state.cuts > 0 && !piece.data.is_empty() {
                    state.cuts -= 1;
                    return Err(Status::unavailable("the call breaks"));
                }
                let stream = state.streams.entry(name.clone()).or_default();
                stream.0.extend_from_slice(&piece.data);
                stream.1 |= piece.finish_write;
                drop(state);
                self.changed.notify_waiters();
            }
        }
        if name.starts_with("uploads/") {
            let digest = self.put(&content);
            assert!(name.ends_with(&format!("/blobs/{}", key(&digest))), "{name} with {}", key(&digest));
        }
        Ok(Response::new(WriteResponse { committed_size: i64::try_from(content.len()).unwrap() }))
    }

    async fn query_write_status(
        &self,
        request: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        let (written, complete) =
            self.state.lock().streams.get(&request.get_ref().resource_name).cloned().unwrap_or_default();
        let committed_size = i64::try_from(written.len()).unwrap();
        Ok(Response::new(QueryWriteStatusResponse { committed_size, complete }))
    }
}
