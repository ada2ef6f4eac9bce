//! The servers of a test's grid, in memory, with faults on demand.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use grid_core::DigestFunction;
use grid_proto::any;
use grid_proto::bytestream::byte_stream_server::ByteStreamServer;
use grid_proto::reapi::capabilities_server::CapabilitiesServer;
use grid_proto::reapi::content_addressable_storage_server::ContentAddressableStorageServer;
use grid_proto::reapi::*;
use grid_proto::rpc;
use grid_proto::rwapi::bots_server::{Bots, BotsServer};
use grid_proto::rwapi::{
    BotSession, BotStatus, CreateBotSessionRequest, Lease, LeaseState, PostBotEventTempRequest,
    UpdateBotSessionRequest,
};
use parking_lot::Mutex;
use prost::Message;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

use super::tree::Tree;

/// Everything that the servers know.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) blobs: HashMap<String, Bytes>,
    /// The calls so far, by name.
    pub(crate) calls: BTreeMap<&'static str, usize>,
    /// Calls that fail from now on, and with what.
    pub(crate) faults: HashMap<&'static str, Code>,
    /// Blobs that are answered with other content.
    pub(crate) corrupt: HashMap<String, Bytes>,
    /// The leases that the bot should have, with how they stand.
    pub(crate) leases: BTreeMap<String, Lease>,
    pub(crate) results: BTreeMap<String, (rpc::Status, Option<ActionResult>)>,
    /// How often each lease was reported as completed.
    pub(crate) reported: BTreeMap<String, usize>,
    /// The bot's status when it first reported each lease as completed.
    pub(crate) told_as: BTreeMap<String, BotStatus>,
    /// The last report of the bot.
    pub(crate) report: BotSession,
    /// All statuses that the bot had.
    pub(crate) statuses: Vec<BotStatus>,
    pub(crate) sessions: usize,
    /// How far the bot last said that each running lease got.
    pub(crate) progress: BTreeMap<String, ExecutedActionMetadata>,
    pub(crate) stdout_stream: String,
    pub(crate) stderr_stream: String,
    /// How many seconds the bot has left, where it is drained.
    pub(crate) drain: Option<u64>,
    /// Whether zstd is offered, and how often it was used for a batch.
    pub(crate) zstd: bool,
    pub(crate) compressed: usize,
    /// Whether results are taken but their leases go on being listed.
    pub(crate) deaf: bool,
    /// What was written to log streams, by resource name.
    pub(crate) streams: BTreeMap<String, (Vec<u8>, bool)>,
    /// How many pieces for log streams are lost from now on, each with its call.
    pub(crate) cuts: usize,
    /// How many updates of sessions are aborted from now on.
    pub(crate) aborts: usize,
    /// The most bytes of a batch, where it isn't 1 MiB.
    pub(crate) batch_limit: Option<usize>,
    /// How many reads break after their first piece from now on, each the last of a corrupt blob, and where each
    /// read began.
    pub(crate) broken_reads: usize,
    pub(crate) read_offsets: Vec<i64>,
    version: u64,
}

#[derive(Clone, Default)]
pub(crate) struct FakeGrid {
    pub(crate) state: Arc<Mutex<State>>,
    pub(super) changed: Arc<Notify>,
    leases: Arc<AtomicU64>,
}

/// The servers at an address; dropped, they break off all calls and connections.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Served {
    /// Goes away without a word.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Goes away without a word, is there again once somebody tried `attempts` times to connect, and knows what
    /// it knew.
    pub(crate) async fn restart(&mut self, grid: &FakeGrid, attempts: usize) {
        let address = self.address;
        self.stop();
        let closed = loop {
            // What the old one had open may take a moment to go.
            match tokio::net::TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        for _ in 0..attempts {
            drop(closed.accept().await.unwrap());
        }
        drop(closed);
        *self = grid.serve(address).await;
    }
}

pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl FakeGrid {
    /// Serves at `address`, port 0 for any free one, until the result is closed.
    pub(crate) async fn serve(&self, address: SocketAddr) -> Served {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let grid = self.clone();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            // As real servers do: else the kernel holds back what is small.
            let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
            let server = Server::builder()
                .add_service(BotsServer::new(grid.clone()))
                .add_service(ContentAddressableStorageServer::new(grid.clone()))
                .add_service(CapabilitiesServer::new(grid.clone()))
                .add_service(ByteStreamServer::new(grid))
                .serve_with_incoming(incoming);
            server.await.unwrap();
        });
        Served { address, runtime: Some(runtime) }
    }

    pub(crate) fn put(&self, content: &[u8]) -> Digest {
        let digest = grid_core::Digest::of(DigestFunction::Sha256, content);
        self.state.lock().blobs.insert(digest.to_string(), Bytes::copy_from_slice(content));
        Digest { hash: digest.hash_hex(), size_bytes: digest.size_signed() }
    }

    pub(crate) fn put_message(&self, message: &impl Message) -> Digest {
        self.put(&message.encode_to_vec())
    }

    pub(crate) fn put_tree(&self, tree: &Tree) -> Digest {
        tree.store(&mut |content| self.put(content))
    }

    pub(crate) fn get(&self, digest: &Digest) -> Bytes {
        if digest.size_bytes == 0 {
            return Bytes::new();
        }
        self.state.lock().blobs.get(&key(digest)).cloned().expect("a result names a blob that is not there")
    }

    pub(crate) fn get_message<M: Message + Default>(&self, digest: &Digest) -> M {
        M::decode(self.get(digest)).unwrap()
    }

    /// Gives the bot a lease.
    pub(crate) fn enqueue(&self, action: &Action) -> String {
        let id = format!("lease-{}", self.leases.fetch_add(1, Ordering::Relaxed));
        let lease = Lease {
            id: id.clone(),
            payload: Some(any::pack(action)),
            state: LeaseState::Active.into(),
            ..Lease::default()
        };
        let mut state = self.state.lock();
        state.leases.insert(id.clone(), lease);
        state.version += 1;
        drop(state);
        self.changed.notify_waiters();
        id
    }

    /// Takes a lease away from the bot.
    pub(crate) fn cancel(&self, id: &str) {
        let mut state = self.state.lock();
        state.leases.remove(id);
        state.version += 1;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Begins or ends a drain of the bot.
    pub(crate) fn drain(&self, left: Option<u64>) {
        let mut state = self.state.lock();
        state.drain = left;
        state.version += 1;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Has a blob answered with other content.
    pub(crate) fn corrupt(&self, digest: &Digest, content: &[u8]) {
        self.state.lock().corrupt.insert(key(digest), Bytes::copy_from_slice(content));
    }

    pub(crate) fn fault(&self, call: &'static str, code: Option<Code>) {
        let mut state = self.state.lock();
        match code {
            Some(code) => state.faults.insert(call, code),
            None => state.faults.remove(call),
        };
    }

    pub(crate) async fn result(&self, id: &str) -> (rpc::Status, ActionResult) {
        loop {
            let changed = self.changed.notified();
            if let Some((status, result)) = self.state.lock().results.get(id).cloned() {
                return (status, result.unwrap_or_default());
            }
            changed.await;
        }
    }

    /// Waits until the state is as `condition` wants it.
    pub(crate) async fn until(&self, condition: impl Fn(&State) -> bool) {
        let waited = tokio::time::timeout(super::PATIENCE, async {
            loop {
                let changed = self.changed.notified();
                if condition(&self.state.lock()) {
                    return;
                }
                changed.await;
            }
        });
        waited.await.expect("the server's state in time");
    }

    pub(super) fn called(&self, call: &'static str) -> Result<(), Status> {
        let mut state = self.state.lock();
        *state.calls.entry(call).or_default() += 1;
        let fault = state.faults.get(call).copied();
        drop(state);
        self.changed.notify_waiters();
        fault.map_or(Ok(()), |code| Err(Status::new(code, "a fault that the test asked for")))
    }

    fn session(&self, mut session: BotSession) -> Response<BotSession> {
        let state = self.state.lock();
        session.version = state.version.to_string();
        session.leases = state.leases.values().cloned().collect();
        let metadata = ExecuteOperationMetadata {
            action_digest: None,
            stdout_stream_name: state.stdout_stream.clone(),
            stderr_stream_name: state.stderr_stream.clone(),
            ..ExecuteOperationMetadata::default()
        };
        let mut about = Vec::new();
        if !state.stdout_stream.is_empty() {
            for lease in state.leases.values() {
                let value = &lease.payload.as_ref().unwrap().value;
                let digest = grid_core::Digest::of(DigestFunction::Sha256, value);
                let mut metadata = metadata.clone();
                metadata.action_digest =
                    Some(Digest { hash: digest.hash_hex(), size_bytes: digest.size_signed() });
                about.push(metadata);
            }
        }
        let drain = state.drain;
        drop(state);
        let mut response = Response::new(session);
        if let Some(left) = drain {
            response.metadata_mut().insert("grid-drain", left.into());
        }
        for metadata in about {
            let value = tonic::metadata::MetadataValue::from_bytes(&metadata.encode_to_vec());
            response.metadata_mut().append_bin("executeoperationmetadata-bin", value);
        }
        response
    }

    fn take_progress(&self, metadata: &tonic::metadata::MetadataMap) {
        for entry in metadata.iter() {
            if let tonic::metadata::KeyAndValueRef::Binary(key, value) = entry
                && let Some(lease) = key.as_str().strip_prefix("partial-execution-metadata-")
            {
                let lease = lease.strip_suffix("-bin").unwrap().to_owned();
                let reached = ExecutedActionMetadata::decode(value.to_bytes().unwrap()).unwrap();
                self.state.lock().progress.insert(lease, reached);
            }
        }
    }

    /// Takes in a report; whether it changed anything.
    fn take(&self, report: &BotSession) {
        let mut state = self.state.lock();
        state.report = report.clone();
        let status = report.status();
        if state.statuses.last() != Some(&status) {
            state.statuses.push(status);
        }
        for lease in &report.leases {
            if lease.state() == LeaseState::Completed {
                *state.reported.entry(lease.id.clone()).or_default() += 1;
                state.told_as.entry(lease.id.clone()).or_insert(status);
                if state.leases.contains_key(&lease.id) {
                    let result = lease.result.as_ref().map(|r| any::unpack(r).unwrap());
                    let status = lease.status.clone().unwrap_or_default();
                    state.results.entry(lease.id.clone()).or_insert((status, result));
                    if state.deaf {
                        state.leases.insert(lease.id.clone(), lease.clone());
                    } else {
                        state.leases.remove(&lease.id);
                    }
                    state.version += 1;
                }
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

pub(super) fn key(digest: &Digest) -> String {
    format!("{}/{}", digest.hash, digest.size_bytes)
}

#[tonic::async_trait]
impl Bots for FakeGrid {
    async fn create_bot_session(
        &self,
        request: Request<CreateBotSessionRequest>,
    ) -> Result<Response<BotSession>, Status> {
        self.called("CreateBotSession")?;
        let mut session = request.into_inner().bot_session.unwrap();
        assert_eq!(session.leases, [], "a new session brings no leases");
        let mut state = self.state.lock();
        state.sessions += 1;
        session.name = format!("session-{}", state.sessions);
        drop(state);
        self.take(&session);
        Ok(self.session(session))
    }

    async fn update_bot_session(
        &self,
        request: Request<UpdateBotSessionRequest>,
    ) -> Result<Response<BotSession>, Status> {
        self.called("UpdateBotSession")?;
        let left = self.state.lock().aborts.checked_sub(1);
        if let Some(left) = left {
            self.state.lock().aborts = left;
            return Err(Status::aborted("lost to another call"));
        }
        self.take_progress(request.metadata());
        let report = request.into_inner().bot_session.unwrap();
        self.take(&report);
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if self.state.lock().version.to_string() != report.version {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(3), wait).await;
        Ok(self.session(report))
    }

    async fn post_bot_event_temp(&self, _: Request<PostBotEventTempRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented(""))
    }
}
