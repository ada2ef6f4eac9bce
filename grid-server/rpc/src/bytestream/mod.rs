//! `google.bytestream.ByteStream`: blobs in pieces, plain and zstd, and log streams by the same calls.
//!
//! [`name`] tells what a call is about; [`read`] and [`write`] move blobs between the wire and the store. An
//! ingress can only route by service, so every server's ByteStream takes blob names and log-stream names alike.

pub mod name;
mod read;
mod resume;
mod uncopied;
mod write;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use grid_cas::SharedStore;
use grid_core::Digest;
use grid_proto::bytestream::byte_stream_server::ByteStream;
use grid_proto::bytestream::{
    QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, ReadResponse, WriteRequest, WriteResponse,
};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::digests::Functions;
use crate::error::status;
use crate::metadata::RESOURCE_NAME;
use crate::{Instances, RpcError};
use name::{Blob, Resource};

pub use uncopied::Uncopied;

/// The messages of a read, in order, and at most one error, which ends them.
pub type ReadMessages = Pin<Box<dyn Stream<Item = Result<ReadResponse, Status>> + Send>>;

/// What `ByteStream` needs to know of one instance.
#[derive(Clone, Debug)]
pub struct ByteStreamInstance {
    /// Where blobs are; `verify` stands outermost in it.
    pub store: SharedStore,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether a write of a blob that is there is answered before the client has sent it all. Some proxies take
    /// that for an error (BuildGrid's `disable-overwrite-early-return`).
    pub early_return: bool,
    /// The digest functions that the instance takes.
    pub functions: Functions,
    /// The largest blob that the instance takes, in bytes.
    pub max_blob_bytes: Option<u64>,
    /// Where large uploads are kept so that they can resume, on another replica too.
    pub uploads: Option<Resumable>,
}

/// Which uploads can resume, and where their bytes wait.
#[derive(Clone, Debug)]
pub struct Resumable {
    /// The store of unfinished uploads.
    pub store: Arc<dyn grid_streams::UploadStore>,
    /// Blobs of at least so many bytes are worth it; smaller ones are sent again.
    pub from_bytes: u64,
}

/// The `ByteStream` service.
#[derive(Clone, Debug)]
pub struct ByteStreamService {
    instances: Instances<ByteStreamInstance>,
    logs: Option<crate::logstream::LogStreams>,
    idle: Duration,
}

impl ByteStreamService {
    /// A service over the instances that have blobs, and over log streams where there are any.
    ///
    /// `idle` is how long the writer of a blob may pause between messages before its call is ended.
    #[must_use]
    pub fn new(
        instances: Instances<ByteStreamInstance>,
        logs: Option<crate::logstream::LogStreams>,
        idle: Duration,
    ) -> Self {
        Self { instances, logs, idle }
    }

    async fn blob_instance(&self, blob: &Blob<'_>) -> Result<&Arc<ByteStreamInstance>, RpcError> {
        let instance = self.instances.get(blob.instance).await?;
        if !instance.functions.contains(&blob.digest.function()) {
            let name = blob.digest.function().name();
            return Err(RpcError::field("resource_name", format!("{name} is not supported here")));
        }
        Ok(instance)
    }

    fn logs(&self, name: &str) -> Result<&crate::logstream::LogStreams, RpcError> {
        self.logs.as_ref().ok_or_else(|| RpcError::NotFound(format!("log stream {name:?}")))
    }

    async fn query(&self, name: &str) -> Result<QueryWriteStatusResponse, Status> {
        match Resource::parse(name).map_err(status)? {
            Resource::LogStream(name) => {
                let logs = self.logs(name).map_err(status)?;
                logs.query(name).await
            }
            Resource::Blob(_) => Err(status(not_an_upload())),
            Resource::Upload { blob, uuid } => {
                let instance = self.blob_instance(&blob).await.map_err(status)?;
                write::query(instance, &blob, uuid).await
            }
        }
    }
}

fn not_an_upload() -> RpcError {
    RpcError::field("resource_name", "names a blob to read; an upload is named uploads/UUID/blobs/HASH/SIZE")
}

/// Whether the store has the blob.
async fn present(store: &SharedStore, digest: &Digest) -> Result<bool, grid_cas::StoreError> {
    Ok(store.find_missing(std::slice::from_ref(digest)).await?.is_empty())
}

/// Checks the optional header that repeats the resource's name for proxies.
fn check_header(headers: &MetadataMap, name: &str) -> Result<(), RpcError> {
    match headers.get(RESOURCE_NAME) {
        Some(header) if header.as_bytes() != name.as_bytes() => {
            Err(RpcError::field("resource_name", format!("differs from the header {RESOURCE_NAME}")))
        }
        _ => Ok(()),
    }
}

#[tonic::async_trait]
impl ByteStream for ByteStreamService {
    type ReadStream = ReadMessages;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let name = &request.get_ref().resource_name;
        check_header(request.metadata(), name).map_err(status)?;
        let messages = match Resource::parse(name).map_err(status)? {
            Resource::Blob(blob) => {
                let instance = self.blob_instance(&blob).await.map_err(status)?;
                read::read(&instance.store, &blob, request.get_ref()).await?
            }
            Resource::Upload { .. } => {
                return Err(status(RpcError::field("resource_name", "names an upload, which can't be read")));
            }
            Resource::LogStream(name) => self.logs(name).map_err(status)?.read(request.get_ref()).await?,
        };
        Ok(Response::new(messages))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteResponse>, Status> {
        let (headers, _, mut messages) = request.into_parts();
        let Some(first) = messages.message().await? else {
            return Err(status(RpcError::field("resource_name", "is not set: the stream held no message")));
        };
        check_header(&headers, &first.resource_name).map_err(status)?;
        let name = first.resource_name.clone();
        let committed_size = match Resource::parse(&name).map_err(status)? {
            Resource::Upload { blob, uuid } => {
                let instance = self.blob_instance(&blob).await.map_err(status)?;
                write::write(instance, &blob, uuid, first, messages, self.idle).await?
            }
            Resource::Blob(_) => return Err(status(not_an_upload())),
            Resource::LogStream(name) => {
                self.logs(name).map_err(status)?.write(name, first, messages).await?
            }
        };
        Ok(Response::new(WriteResponse { committed_size }))
    }

    async fn query_write_status(
        &self,
        request: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        let name = &request.get_ref().resource_name;
        check_header(request.metadata(), name).map_err(status)?;
        self.query(name).await.map(Response::new)
    }
}
