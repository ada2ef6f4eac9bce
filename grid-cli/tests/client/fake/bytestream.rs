//! ByteStream for blobs and logs, and LogStream.

use futures::stream::{self, BoxStream};
use grid_core::{Digest, DigestFunction};
use grid_proto::bytestream::byte_stream_server::ByteStream;
use grid_proto::bytestream::{
    QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, ReadResponse, WriteRequest, WriteResponse,
};
use grid_proto::logstream::log_stream_service_server::LogStreamService;
use grid_proto::logstream::{CreateLogStreamRequest, LogStream};
use tonic::{Request, Response, Status, Streaming};

use super::Fake;
use super::cas::unpacked;

/// Where a transfer breaks that is to break.
const BREAK: usize = 300_000;

#[tonic::async_trait]
impl ByteStream for Fake {
    type ReadStream = BoxStream<'static, Result<ReadResponse, Status>>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let name = request.resource_name;
        let mut state = self.state();
        state.transfers.push((name.clone(), request.read_offset));
        let hash = name.rsplit('/').nth(1).unwrap_or_default();
        let found =
            state.logs.get(&name).cloned().or_else(|| state.blobs.get(hash).map(|blob| blob.to_vec()));
        let mut content = found.ok_or_else(|| Status::not_found("no such resource"))?;
        content.drain(..usize::try_from(request.read_offset).unwrap());
        if state.corrupt {
            content.fill(b'!');
        }
        let breaks = state.breaks > 0;
        if breaks {
            state.breaks -= 1;
            content.truncate(BREAK);
        }
        if name.contains("compressed-blobs/zstd") {
            content = zstd::bulk::compress(&content, 1).unwrap();
        }
        let mut pieces: Vec<_> = content
            .chunks(60_000)
            .map(|piece| Ok(ReadResponse { data: bytes::Bytes::copy_from_slice(piece) }))
            .collect();
        if breaks {
            pieces.push(Err(Status::unavailable("the replica goes away")));
        }
        Ok(Response::new(Box::pin(stream::iter(pieces))))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteResponse>, Status> {
        let mut pieces = request.into_inner();
        let mut name = String::new();
        let mut written: Vec<u8> = Vec::new();
        while let Some(piece) = pieces.message().await? {
            if name.is_empty() {
                name = piece.resource_name;
                let mut state = self.state();
                state.transfers.push((name.clone(), piece.write_offset));
                written = state.partial.remove(&name).unwrap_or_default();
            }
            assert_eq!(piece.write_offset, i64::try_from(written.len()).unwrap());
            written.extend_from_slice(&piece.data);
            let mut state = self.state();
            if state.breaks > 0 && written.len() > BREAK {
                state.breaks -= 1;
                state.partial.insert(name, written);
                return Err(Status::unavailable("the replica goes away"));
            }
            if piece.finish_write {
                return finish(&mut state, &name, written);
            }
        }
        Err(Status::invalid_argument("the write was not finished"))
    }

    async fn query_write_status(
        &self,
        request: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        let name = request.into_inner().resource_name;
        let committed = self.state().partial.get(&name).map_or(0, Vec::len);
        let committed_size = i64::try_from(committed).unwrap();
        Ok(Response::new(QueryWriteStatusResponse { committed_size, complete: false }))
    }
}

fn finish(state: &mut super::State, name: &str, written: Vec<u8>) -> Result<Response<WriteResponse>, Status> {
    let committed_size = i64::try_from(written.len()).unwrap();
    if name.contains("/logStreams/") {
        state.logs.insert(name.rsplit_once('/').unwrap().0.to_owned(), written);
        return Ok(Response::new(WriteResponse { committed_size }));
    }
    let content = if name.contains("compressed-blobs/zstd") { unpacked(&written) } else { written.into() };
    let hash = name.rsplit('/').nth(1).unwrap();
    if Digest::of(DigestFunction::Sha256, &content).hash_hex() != hash {
        return Err(Status::invalid_argument("the content does not match"));
    }
    state.blobs.insert(hash.to_owned(), content);
    Ok(Response::new(WriteResponse { committed_size }))
}

#[tonic::async_trait]
impl LogStreamService for Fake {
    async fn create_log_stream(
        &self,
        request: Request<CreateLogStreamRequest>,
    ) -> Result<Response<LogStream>, Status> {
        let name = format!("{}/logStreams/1", request.into_inner().parent);
        Ok(Response::new(LogStream { write_resource_name: format!("{name}/2"), name }))
    }
}
