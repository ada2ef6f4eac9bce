//! A server of CAS and ByteStream over a store, as small as a test needs it, which breaks when told to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use grid_cas::{ByteRange, SharedStore, content};
use grid_core::{Coded, Digest, DigestFunction, ErrorCode};
use grid_proto::bytestream::byte_stream_server::{ByteStream, ByteStreamServer};
use grid_proto::bytestream::*;
use grid_proto::directories::GetTreeResponse;
use grid_proto::reapi::content_addressable_storage_server::{
    ContentAddressableStorage, ContentAddressableStorageServer,
};
use grid_proto::reapi::*;
use grid_proto::rpc;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tonic::{Request, Response, Status, Streaming};

pub(crate) struct Served {
    address: SocketAddr,
    pub(crate) state: Arc<State>,
    /// What serves, connections included: they end with it.
    running: Option<Runtime>,
}

pub(crate) struct State {
    store: SharedStore,
    uploads: Mutex<HashMap<String, BytesMut>>,
    /// The next upload breaks off after so many bytes; zero: never.
    pub(crate) break_write_after: AtomicU64,
    pub(crate) break_read_after: AtomicU64,
    pub(crate) token: Mutex<Option<String>>,
    /// The user agent of the last call.
    pub(crate) agent: Mutex<String>,
}

impl Served {
    pub(crate) async fn start(store: SharedStore) -> Self {
        let state = Arc::new(State {
            store,
            uploads: Mutex::default(),
            break_write_after: AtomicU64::new(0),
            break_read_after: AtomicU64::new(0),
            token: Mutex::default(),
            agent: Mutex::default(),
        });
        let mut served = Self { address: ([127, 0, 0, 1], 0).into(), state, running: None };
        served.restart();
        served
    }

    /// By name, so that names are looked up.
    pub(crate) fn url(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }

    /// Ends the server and every connection to it.
    pub(crate) async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        let end = move || running.shutdown_timeout(Duration::from_secs(60));
        tokio::task::spawn_blocking(end).await.unwrap();
    }

    /// Takes so many connections, and closes each at once.
    pub(crate) async fn hang_up_on(&self, connections: usize) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        for _ in 0..connections {
            drop(listener.accept().await.unwrap());
        }
    }

    pub(crate) fn restart(&mut self) {
        let listener = std::net::TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.address = listener.local_addr().unwrap();
        let service = Service(Arc::clone(&self.state));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            tonic::transport::Server::builder()
                .add_service(ContentAddressableStorageServer::new(service.clone()))
                .add_service(ByteStreamServer::new(service))
                .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        self.running = Some(runtime);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown_background();
        }
    }
}

#[derive(Clone)]
struct Service(Arc<State>);

impl Service {
    fn check<T>(&self, request: &Request<T>, instance: &str) -> Result<(), Status> {
        assert_eq!(instance, "main");
        let agent = request.metadata().get("user-agent").map(|value| value.to_str().unwrap().to_owned());
        *self.0.agent.lock() = agent.unwrap_or_default();
        let sent = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        match &*self.0.token.lock() {
            Some(token) if sent.as_ref() != Some(token) => Err(Status::unauthenticated("no token")),
            _ => Ok(()),
        }
    }

    /// `main/uploads/UUID/blobs/...` or `main/blobs/...`.
    fn digest(name: &str) -> Digest {
        let (before, blob) = name.split_once("blobs/").unwrap();
        assert!(before.starts_with("main/"), "{name}");
        match blob.split('/').collect::<Vec<_>>()[..] {
            [hash, size] => Digest::parse_text(None, &format!("{hash}/{size}")).unwrap(),
            [function, hash, size] => {
                Digest::parse_text(DigestFunction::from_name(function), &format!("{hash}/{size}")).unwrap()
            }
            _ => panic!("{name}"),
        }
    }
}

fn parse(function: i32, digest: &grid_proto::reapi::Digest) -> Digest {
    Digest::parse(DigestFunction::from_wire(function).unwrap(), &digest.hash, digest.size_bytes).unwrap()
}

fn wire(digest: &Digest) -> grid_proto::reapi::Digest {
    grid_proto::reapi::Digest { hash: digest.hash_hex(), size_bytes: digest.size_signed() }
}

fn status(error: &grid_cas::StoreError) -> Status {
    match error.code() {
        ErrorCode::NotFound => Status::not_found(error.to_string()),
        ErrorCode::InvalidArgument => Status::invalid_argument(error.to_string()),
        ErrorCode::OutOfRange => Status::out_of_range(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}

fn rpc_status<T>(answer: &Result<T, grid_cas::StoreError>) -> Option<rpc::Status> {
    let code = answer.as_ref().err().map_or(0, |error| status(error).code() as i32);
    Some(rpc::Status { code, ..Default::default() })
}

#[tonic::async_trait]
impl ContentAddressableStorage for Service {
    async fn find_missing_blobs(
        &self,
        request: Request<FindMissingBlobsRequest>,
    ) -> Result<Response<FindMissingBlobsResponse>, Status> {
        self.check(&request, &request.get_ref().instance_name)?;
        let request = request.into_inner();
        let digests: Vec<_> =
            request.blob_digests.iter().map(|d| parse(request.digest_function, d)).collect();
        let missing = self.0.store.find_missing(&digests).await.map_err(|e| status(&e))?;
        let missing_blob_digests = missing.iter().map(wire).collect();
        Ok(Response::new(FindMissingBlobsResponse { missing_blob_digests }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<BatchUpdateBlobsRequest>,
    ) -> Result<Response<BatchUpdateBlobsResponse>, Status> {
        self.check(&request, &request.get_ref().instance_name)?;
        let request = request.into_inner();
        let blobs = request.requests.into_iter();
        let blobs: Vec<_> =
            blobs.map(|r| (parse(request.digest_function, &r.digest.unwrap()), r.data)).collect();
        let digests: Vec<_> = blobs.iter().map(|(digest, _)| *digest).collect();
        let answers = self.0.store.write_batch(blobs).await;
        let answered = digests.iter().zip(answers).rev();
        let response = |(digest, answer): (&Digest, _)| batch_update_blobs_response::Response {
            digest: Some(wire(digest)),
            status: rpc_status(&answer),
        };
        Ok(Response::new(BatchUpdateBlobsResponse { responses: answered.map(response).collect() }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<BatchReadBlobsRequest>,
    ) -> Result<Response<BatchReadBlobsResponse>, Status> {
        self.check(&request, &request.get_ref().instance_name)?;
        let request = request.into_inner();
        let digests: Vec<_> = request.digests.iter().map(|d| parse(request.digest_function, d)).collect();
        assert!(digests.iter().map(Digest::size).sum::<u64>() < 4 * 1024 * 1024);
        let answers = self.0.store.read_batch(&digests).await;
        let answered = digests.iter().zip(answers).rev();
        let response = |(digest, answer): (&Digest, Result<Bytes, _>)| batch_read_blobs_response::Response {
            digest: Some(wire(digest)),
            status: rpc_status(&answer),
            data: answer.unwrap_or_default(),
            compressor: 0,
        };
        Ok(Response::new(BatchReadBlobsResponse { responses: answered.map(response).collect() }))
    }

    type GetTreeStream = Pin<Box<dyn Stream<Item = Result<GetTreeResponse, Status>> + Send>>;

    async fn get_tree(&self, _: Request<GetTreeRequest>) -> Result<Response<Self::GetTreeStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn split_blob(&self, _: Request<SplitBlobRequest>) -> Result<Response<SplitBlobResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type GetChunkMappingStream = Pin<Box<dyn Stream<Item = Result<GetChunkMappingResponse, Status>> + Send>>;

    async fn get_chunk_mapping(
        &self,
        _: Request<GetChunkMappingRequest>,
    ) -> Result<Response<Self::GetChunkMappingStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn splice_blob(
        &self,
        _: Request<SpliceBlobRequest>,
    ) -> Result<Response<SpliceBlobResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn register_chunk_mapping(
        &self,
        _: Request<Streaming<RegisterChunkMappingRequest>>,
    ) -> Result<Response<RegisterChunkMappingResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl ByteStream for Service {
    type ReadStream = Pin<Box<dyn Stream<Item = Result<ReadResponse, Status>> + Send>>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        self.check(&request, "main")?;
        let ReadRequest { resource_name, read_offset, read_limit } = request.into_inner();
        let limit = u64::try_from(read_limit).ok().filter(|limit| *limit > 0);
        let range = ByteRange { offset: u64::try_from(read_offset).unwrap(), limit };
        let read = self.0.store.read(&Self::digest(&resource_name), range).await;
        let state = Arc::clone(&self.0);
        let mut sent = 0;
        let answers = read.map_err(|e| status(&e))?.map(move |piece| {
            let data = piece.map_err(|e| status(&e))?;
            sent += data.len() as u64;
            let limit = state.break_read_after.load(Ordering::SeqCst);
            if limit > 0 && sent > limit {
                state.break_read_after.store(0, Ordering::SeqCst);
                return Err(Status::unavailable("told to break"));
            }
            Ok(ReadResponse { data })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteResponse>, Status> {
        self.check(&request, "main")?;
        let mut messages = request.into_inner();
        let (mut name, mut finished) = (String::new(), false);
        while let Some(message) = messages.message().await? {
            assert!(!finished && message.data.len() <= 1024 * 1024);
            if name.is_empty() {
                name = message.resource_name;
            }
            let mut uploads = self.0.uploads.lock();
            let upload = uploads.entry(name.clone()).or_default();
            assert_eq!(message.write_offset, i64::try_from(upload.len()).unwrap(), "{name}");
            upload.extend_from_slice(&message.data);
            finished = message.finish_write;
            let limit = self.0.break_write_after.load(Ordering::SeqCst);
            if limit > 0 && upload.len() as u64 > limit {
                self.0.break_write_after.store(0, Ordering::SeqCst);
                return Err(Status::unavailable("told to break"));
            }
        }
        if !finished {
            return Err(Status::cancelled("the client stopped"));
        }
        let bytes = self.0.uploads.lock().remove(&name).unwrap().freeze();
        let committed_size = i64::try_from(bytes.len()).unwrap();
        let stored = self.0.store.write(&Self::digest(&name), content::from_bytes(bytes)).await;
        stored.map_err(|e| status(&e))?;
        Ok(Response::new(WriteResponse { committed_size }))
    }

    async fn query_write_status(
        &self,
        request: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        let uploads = self.0.uploads.lock();
        let upload = uploads.get(&request.into_inner().resource_name).ok_or_else(|| Status::not_found(""))?;
        Ok(Response::new(QueryWriteStatusResponse {
            committed_size: i64::try_from(upload.len()).unwrap(),
            complete: false,
        }))
    }
}
