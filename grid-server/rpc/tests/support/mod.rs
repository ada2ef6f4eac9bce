//! A grid in a process: Execution, Operations and Bots over a real connection, with storage in memory.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use grid_cache::{ActionCache, CacheError};
use grid_cas::SharedStore;
use grid_cas::backends::lru::{Lru, LruOptions};
use grid_cas::observer::unobserved;
use grid_core::{Digest, DigestFunction, InstanceName};
use grid_proto::fleet::fleet_client::FleetClient;
use grid_proto::fleet::fleet_server::FleetServer;
use grid_proto::longrunning::operations_client::OperationsClient;
use grid_proto::longrunning::operations_server::OperationsServer;
use grid_proto::reapi::execution_client::ExecutionClient;
use grid_proto::reapi::execution_server::ExecutionServer;
use grid_proto::reapi::{
    Action, ActionResult, Command, ExecuteOperationMetadata, ExecuteRequest, ExecuteResponse, Platform,
    platform,
};
use grid_proto::rwapi::bots_client::BotsClient;
use grid_proto::rwapi::bots_server::BotsServer;
use grid_proto::rwapi::{
    BotSession, CreateBotSessionRequest, Device, Lease, LeaseState, UpdateBotSessionRequest, Worker, device,
};
use grid_proto::{any, longrunning, rpc};
use grid_rpc::Instances;
use grid_rpc::bots::{BotsService, RemoteLogs, Trailing};
use grid_rpc::digests::to_wire;
use grid_rpc::execution::{ExecutionInstance, ExecutionService};
use grid_rpc::fleet::FleetService;
use grid_rpc::logstream::LogStreams;
use grid_rpc::operations::OperationsService;
use grid_scheduler::ids::TimeOrderedIds;
use grid_scheduler::store::QueueStore;
use grid_scheduler::{Scheduler, SchedulerOptions};
use grid_scheduler_sql::{Database, PostgresQueue, SqliteQueue, testing};
use parking_lot::Mutex;
use prost::Message;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Streaming;
use tonic::transport::{Channel, Server};

/// The instance that tests use.
pub(crate) const INSTANCE: &str = "main/test";

/// An action cache in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryCache(Mutex<HashMap<Digest, ActionResult>>);

#[async_trait]
impl ActionCache for MemoryCache {
    async fn get(&self, action: &Digest) -> Result<Option<ActionResult>, CacheError> {
        Ok(self.0.lock().get(action).cloned())
    }

    async fn update(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        self.0.lock().insert(*action, result.clone());
        Ok(())
    }

    async fn insert(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        self.update(action, result).await
    }

    async fn delete(&self, action: &Digest) -> Result<(), CacheError> {
        self.0.lock().remove(action);
        Ok(())
    }

    fn allows_updates(&self) -> bool {
        true
    }

    async fn probe(&self) -> Result<(), CacheError> {
        Ok(())
    }
}

/// Which database a test runs on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// What the replicas of a grid share.
pub(crate) struct Shared {
    pub(crate) storage: SharedStore,
    pub(crate) cache: Arc<MemoryCache>,
    pub(crate) logs: Option<LogStreams>,
    pub(crate) logs_elsewhere: Option<Arc<RemoteLogs>>,
    store: Arc<dyn Fn() -> Arc<dyn QueueStore> + Send + Sync>,
    _folder: Option<tempfile::TempDir>,
}

impl Shared {
    pub(crate) async fn new(kind: Kind) -> Self {
        let (store, folder): (Arc<dyn Fn() -> Arc<dyn QueueStore> + Send + Sync>, _) = match kind {
            Kind::Sqlite => {
                let (Database::Sqlite(pool), folder) = testing::sqlite().await else { unreachable!() };
                let queue = SqliteQueue::new(pool);
                let next = std::sync::atomic::AtomicU64::new(0);
                let store = move || -> Arc<dyn QueueStore> {
                    Arc::new(queue.sibling(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)))
                };
                (Arc::new(store), Some(folder))
            }
            Kind::Postgres => {
                let Database::Postgres(pool) = testing::postgres().await else { unreachable!() };
                (
                    Arc::new(move || -> Arc<dyn QueueStore> { Arc::new(PostgresQueue::new(pool.clone())) }),
                    None,
                )
            }
        };
        let options = LruOptions { size: 64 << 20, name: "lru".into(), observer: unobserved() };
        Self {
            storage: Arc::new(Lru::new(options)),
            cache: Arc::default(),
            logs: None,
            logs_elsewhere: None,
            store,
            _folder: folder,
        }
    }

    /// Stores a command and an action that runs it; the digest is the action's.
    pub(crate) async fn action(
        &self,
        name: &str,
        platform: &[(&str, &str)],
        change: impl FnOnce(&mut Action),
    ) -> Digest {
        let command = Command { arguments: vec!["echo".into(), name.into()], ..Command::default() };
        let command = self.put(command.encode_to_vec()).await;
        let root = self.put(Vec::new()).await;
        let property = |(name, value): &(&str, &str)| platform::Property {
            name: (*name).into(),
            value: (*value).into(),
        };
        let mut action = Action {
            command_digest: Some(to_wire(&command)),
            input_root_digest: Some(to_wire(&root)),
            platform: Some(Platform { properties: platform.iter().map(property).collect() }),
            ..Action::default()
        };
        change(&mut action);
        self.put(action.encode_to_vec()).await
    }

    pub(crate) async fn put(&self, content: Vec<u8>) -> Digest {
        let digest = Digest::of(DigestFunction::Sha256, &content);
        self.storage.write_batch(vec![(digest, Bytes::from(content))]).await.pop().unwrap().unwrap();
        digest
    }
}

/// One replica.
pub(crate) struct Grid {
    pub(crate) channel: Channel,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Grid {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Grid {
    pub(crate) async fn start(shared: &Shared, options: SchedulerOptions) -> Self {
        let scheduler = Scheduler::start(options, (shared.store)(), Arc::new(TimeOrderedIds));
        let cache: Arc<dyn ActionCache> = shared.cache.clone();
        let fleet = FleetService::new(Arc::clone(&scheduler));
        let instance = Arc::new(ExecutionInstance {
            logs_elsewhere: shared.logs_elsewhere.clone(),
            ..ExecutionInstance::new(scheduler, shared.storage.clone(), Some(cache))
        });
        // Bare identifiers are found beside an instance without a name, too.
        let named = [INSTANCE, ""].map(|name| (InstanceName::new(name).unwrap(), Arc::clone(&instance)));
        let instances = Instances::new("Execution", named);
        let logs = shared.logs.clone();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder()
            .add_service(ExecutionServer::new(ExecutionService::new(instances.clone())))
            .add_service(Trailing(OperationsServer::new(OperationsService::new(instances.clone()))))
            .add_service(Trailing(BotsServer::new(BotsService::new(instances, logs))))
            .add_service(FleetServer::new(fleet))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { server.await.unwrap() });
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { channel, server }
    }

    pub(crate) fn execution(&self) -> ExecutionClient<Channel> {
        ExecutionClient::new(self.channel.clone())
    }

    pub(crate) fn operations(&self) -> OperationsClient<Channel> {
        OperationsClient::new(self.channel.clone())
    }

    /// Asks for an action, and reads the first message of the answer.
    pub(crate) async fn execute(
        &self,
        action: Digest,
    ) -> (longrunning::Operation, Streaming<longrunning::Operation>) {
        let mut stream = self.try_execute(action).await.unwrap();
        let first = stream.message().await.unwrap().unwrap();
        (first, stream)
    }

    /// Asks for an action.
    pub(crate) async fn try_execute(
        &self,
        action: Digest,
    ) -> Result<Streaming<longrunning::Operation>, tonic::Status> {
        let request = ExecuteRequest {
            instance_name: INSTANCE.into(),
            action_digest: Some(to_wire(&action)),
            ..ExecuteRequest::default()
        };
        self.execution().execute(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) fn fleet(&self) -> FleetClient<Channel> {
        FleetClient::new(self.channel.clone())
    }

    pub(crate) fn bot(&self, bot_id: &str, properties: &[(&str, &str)]) -> Bot {
        let property =
            |(key, value): &(&str, &str)| device::Property { key: (*key).into(), value: (*value).into() };
        let device = Device { handle: "d".into(), properties: properties.iter().map(property).collect() };
        let worker = Worker { devices: vec![device], ..Worker::default() };
        let session =
            BotSession { bot_id: bot_id.into(), status: 1, worker: Some(worker), ..BotSession::default() };
        Bot { client: BotsClient::new(self.channel.clone()), session, drain: None, about: Vec::new() }
    }
}

/// A simulated worker.
#[derive(Clone)]
pub(crate) struct Bot {
    pub(crate) client: BotsClient<Channel>,
    pub(crate) session: BotSession,
    /// The seconds until what it runs is taken back, while it drains.
    pub(crate) drain: Option<u64>,
    /// What the last answer said about its leases.
    pub(crate) about: Vec<ExecuteOperationMetadata>,
}

impl Bot {
    /// Opens a session; the call ends after `wait` at the latest.
    pub(crate) async fn create(&mut self, wait: Duration) {
        let bot_session = Some(self.session.clone());
        let mut request =
            tonic::Request::new(CreateBotSessionRequest { parent: INSTANCE.into(), bot_session });
        request.set_timeout(wait);
        let answer = self.client.create_bot_session(request).await.unwrap();
        self.take(answer);
    }

    /// Tells how it stands and takes the answer; the call ends after `wait` at the latest.
    pub(crate) async fn update(&mut self, wait: Duration) -> Result<(), tonic::Status> {
        let message = UpdateBotSessionRequest {
            name: self.session.name.clone(),
            bot_session: Some(self.session.clone()),
            ..UpdateBotSessionRequest::default()
        };
        let mut request = tonic::Request::new(message);
        request.set_timeout(wait);
        let answer = self.client.update_bot_session(request).await?;
        self.take(answer);
        Ok(())
    }

    fn take(&mut self, answer: tonic::Response<BotSession>) {
        let drain = answer.metadata().get("grid-drain").and_then(|left| left.to_str().ok());
        self.drain = drain.and_then(|left| left.parse().ok());
        let about = answer.metadata().get_all_bin("executeoperationmetadata-bin");
        let about = about.iter().map(|value| value.to_bytes().unwrap());
        self.about = about.map(|bytes| ExecuteOperationMetadata::decode(bytes).unwrap()).collect();
        self.session = answer.into_inner();
    }

    /// Ends every lease with this exit code.
    pub(crate) fn complete(&mut self, exit_code: i32) {
        for lease in &mut self.session.leases {
            let result = ActionResult { exit_code, stdout_raw: "done".into(), ..ActionResult::default() };
            finish(lease, 0, Some(&result));
        }
    }
}

/// Ends a lease.
pub(crate) fn finish(lease: &mut Lease, code: i32, result: Option<&ActionResult>) {
    lease.state = LeaseState::Completed.into();
    lease.status = Some(rpc::Status { code, ..rpc::Status::default() });
    lease.result = result.map(any::pack);
}

/// Reads a stream to its end.
pub(crate) async fn last(mut stream: Streaming<longrunning::Operation>) -> longrunning::Operation {
    let mut last = None;
    while let Some(operation) = stream.message().await.unwrap() {
        last = Some(operation);
    }
    last.unwrap()
}

/// The response of an operation that is done.
pub(crate) fn response(operation: &longrunning::Operation) -> ExecuteResponse {
    assert!(operation.done, "{operation:?}");
    match operation.result.as_ref().unwrap() {
        longrunning::operation::Result::Response(response) => any::unpack(response).unwrap(),
        longrunning::operation::Result::Error(error) => panic!("{error:?}"),
    }
}
