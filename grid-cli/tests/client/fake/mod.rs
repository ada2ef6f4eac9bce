//! A server that keeps everything in memory, and fails as it is told.

mod bytestream;
mod cas;
mod execution;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use grid_core::{Digest, DigestFunction};
use grid_proto::bytestream::byte_stream_server::ByteStreamServer;
use grid_proto::logstream::log_stream_service_server::LogStreamServiceServer;
use grid_proto::longrunning::Operation;
use grid_proto::longrunning::operations_server::OperationsServer;
use grid_proto::reapi;
use grid_proto::reapi::action_cache_server::ActionCacheServer;
use grid_proto::reapi::capabilities_server::CapabilitiesServer;
use grid_proto::reapi::content_addressable_storage_server::ContentAddressableStorageServer;
use grid_proto::reapi::execution_server::ExecutionServer;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataMap;
use tonic::service::InterceptorLayer;
use tonic::transport::Server;
use tonic::{Request, Status};

/// Everything that the server has, and how it misbehaves.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) blobs: HashMap<String, Bytes>,
    pub(crate) results: HashMap<String, reapi::ActionResult>,
    pub(crate) logs: HashMap<String, Vec<u8>>,
    pub(crate) operations: HashMap<String, Operation>,
    pub(crate) cancelled: Vec<String>,
    pub(crate) executed: Vec<reapi::ExecuteRequest>,
    /// Headers of the last call.
    pub(crate) headers: MetadataMap,
    /// Names and offsets of the reads and writes, as they began.
    pub(crate) transfers: Vec<(String, i64)>,
    /// Unfinished writes.
    pub(crate) partial: HashMap<String, Vec<u8>>,
    pub(crate) zstd: bool,
    /// How many transfers break off after 300,000 bytes with UNAVAILABLE.
    pub(crate) breaks: u32,
    /// How many FindMissingBlobs are refused with RESOURCE_EXHAUSTED and a RetryInfo.
    pub(crate) refusals: u32,
    /// Whether all content that is read is wrong.
    pub(crate) corrupt: bool,
    /// What an executed action comes to.
    pub(crate) outcome: reapi::ExecuteResponse,
}

/// A running server; it stops with the test's runtime.
#[derive(Clone, Debug)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    port: u16,
}

impl Fake {
    /// Starts it.
    pub(crate) async fn start(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fake = Self { state: Arc::new(Mutex::new(state)), port };
        let watch = fake.clone();
        let record = move |request: Request<()>| {
            watch.state().headers = request.metadata().clone();
            Ok::<_, Status>(request)
        };
        let server = Server::builder()
            .layer(InterceptorLayer::new(record))
            .add_service(CapabilitiesServer::new(fake.clone()))
            .add_service(ContentAddressableStorageServer::new(fake.clone()))
            .add_service(ByteStreamServer::new(fake.clone()))
            .add_service(ActionCacheServer::new(fake.clone()))
            .add_service(ExecutionServer::new(fake.clone()))
            .add_service(OperationsServer::new(fake.clone()))
            .add_service(LogStreamServiceServer::new(fake.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        fake
    }

    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Stores `content`; gives its digest as the command line takes it.
    pub(crate) fn store(&self, content: impl Into<Bytes>) -> String {
        let content = content.into();
        let digest = Digest::of(DigestFunction::Sha256, &content);
        self.state().blobs.insert(digest.hash_hex(), content);
        digest.to_string()
    }

    /// The message with digest `text`.
    pub(crate) fn message<M: prost::Message + Default>(&self, text: &str) -> M {
        let hash = text.split('/').next().unwrap();
        M::decode(self.state().blobs[hash].clone()).unwrap()
    }
}

pub(crate) fn wire(text: &str) -> reapi::Digest {
    let (hash, size) = text.split_once('/').unwrap();
    reapi::Digest { hash: hash.to_owned(), size_bytes: size.parse().unwrap() }
}
