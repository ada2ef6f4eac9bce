//! The server under test, and its clients.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use grid_cache::SharedCache;
use grid_cache::backends::lru::Lru as LruCache;
use grid_cache::decorators::allow_updates::ReadOnly;
use grid_cas::SharedStore;
use grid_cas::backends::disk::{Disk, DiskOptions};
use grid_cas::backends::lru::{Lru, LruOptions};
use grid_cas::backends::remote::Remote;
use grid_cas::client::{Connection, ConnectionOptions};
use grid_cas::decorators::verify::Verify;
use grid_cas::observer::unobserved;
use grid_core::{Digest, DigestFunction, InstanceName, SystemClock};
use grid_proto::asset::fetch_server::FetchServer;
use grid_proto::asset::push_server::PushServer;
use grid_proto::buildevents::publish_build_event_server::PublishBuildEventServer;
use grid_proto::buildgrid::query_build_events_server::QueryBuildEventsServer;
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::bytestream::byte_stream_server::ByteStreamServer;
use grid_proto::logstream::log_stream_service_client::LogStreamServiceClient;
use grid_proto::logstream::log_stream_service_server::LogStreamServiceServer;
use grid_proto::reapi;
use grid_proto::reapi::action_cache_client::ActionCacheClient;
use grid_proto::reapi::action_cache_server::ActionCacheServer;
use grid_proto::reapi::capabilities_client::CapabilitiesClient;
use grid_proto::reapi::capabilities_server::CapabilitiesServer;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use grid_proto::reapi::content_addressable_storage_server::ContentAddressableStorageServer;
use grid_rpc::Instances;
use grid_rpc::action_cache::{ActionCacheInstance, ActionCacheService};
use grid_rpc::asset::origin::{Hosts, Origin, OriginOptions};
use grid_rpc::asset::{AssetInstance, AssetService};
use grid_rpc::build_events::BuildEvents;
use grid_rpc::bytestream::{ByteStreamInstance, ByteStreamService, Resumable, Uncopied};
use grid_rpc::capabilities::{
    ActionCacheAbilities, CapabilitiesInstance, CapabilitiesService, CasAbilities, ExecutionAbilities, Part,
};
use grid_rpc::cas::{CasInstance, CasService, Chunking, ChunkingOptions, tree::TreeLimits};
use grid_rpc::digests::{Functions, all_functions, to_wire};
use grid_rpc::execution::ExecutionInstance;
use grid_rpc::logstream::LogStreams;
use grid_rpc::transport::around::Surrounded;
use grid_rpc::transport::deadline::Deadlines;
use grid_rpc::transport::{self, MAX_BATCH_BYTES, MAX_RECEIVED_MESSAGE, TransportOptions};
use grid_scheduler_sql::testing::sqlite;
use grid_streams::{QueryLimits, SqlAssetStore, SqlEventStore, SqlLogStreamStore, SqlUploadStore};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::ServiceBuilder;

use crate::origin::WebServer;
use crate::queue;

/// Which store the server stands on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StoreKind {
    /// In memory.
    Lru,
    /// Files.
    Disk,
}

/// The instances of the server: the ordinary one, one that takes no writes, one with tight limits and SHA-256
/// alone, and the unnamed one, which answers no write early.
pub(crate) const MAIN: &str = "main";
pub(crate) const READ_ONLY: &str = "read/only";
pub(crate) const TIGHT: &str = "tight";
pub(crate) const UNNAMED: &str = "";
/// The largest blob that the tight instance takes, and the largest batch.
pub(crate) const TIGHT_BLOB: u64 = 1000;
pub(crate) const TIGHT_BATCH: u64 = 1500;
/// From how many bytes on uploads to the main instance resume.
pub(crate) const RESUME_FROM: u64 = 6 << 20;

/// The bytes that a stream of build events keeps.
pub(crate) const EVENTS_BYTES: u64 = 20 << 20;

/// The largest asset that is fetched.
pub(crate) const ASSET_BYTES: u64 = 100_000;

/// A connection to the server under test, and to a second replica of it.
#[derive(Clone)]
pub(crate) struct Grid {
    pub(crate) channel: Channel,
    replica: Channel,
    pub(crate) store: SharedStore,
    /// What assets are fetched from.
    pub(crate) web: WebServer,
    _folder: Arc<dyn Send + Sync>,
}

struct Parts {
    store: SharedStore,
    uploads: Arc<SqlUploadStore>,
    logs: Arc<SqlLogStreamStore>,
    events: BuildEvents,
    caches: HashMap<&'static str, SharedCache>,
    chunking: ChunkingOptions,
    assets: Arc<SqlAssetStore>,
    executing: Instances<ExecutionInstance>,
    folder: std::path::PathBuf,
}

fn name(name: &str) -> InstanceName {
    InstanceName::new(name).unwrap()
}

fn functions(instance: &str) -> Functions {
    if instance == TIGHT { [DigestFunction::Sha256].into() } else { all_functions() }
}

const INSTANCES: [&str; 4] = [MAIN, READ_ONLY, TIGHT, UNNAMED];

impl Parts {
    fn cas(&self) -> CasService {
        // Each replica remembers its own.
        let chunking = Arc::new(Chunking::new(self.chunking));
        let instance = |instance: &'static str| {
            let tight = instance == TIGHT;
            let options = CasInstance {
                store: Arc::clone(&self.store),
                read_only: instance == READ_ONLY,
                functions: functions(instance),
                max_batch_bytes: if tight { TIGHT_BATCH } else { MAX_BATCH_BYTES },
                max_blob_bytes: tight.then_some(TIGHT_BLOB),
                tree: TreeLimits {
                    max_directories: if tight { 20 } else { 100_000 },
                    ..TreeLimits::default()
                },
                chunking: (!tight).then(|| Arc::clone(&chunking)),
            };
            (name(instance), Arc::new(options))
        };
        CasService::new(Instances::new("ContentAddressableStorage", INSTANCES.map(instance)))
    }

    fn bytestream(&self, logs: LogStreams) -> ByteStreamService {
        let instance = |instance: &'static str| {
            let store = Arc::clone(&self.uploads) as Arc<dyn grid_streams::UploadStore>;
            let options = ByteStreamInstance {
                store: Arc::clone(&self.store),
                read_only: instance == READ_ONLY,
                early_return: instance != UNNAMED,
                functions: functions(instance),
                max_blob_bytes: (instance == TIGHT).then_some(TIGHT_BLOB),
                uploads: (instance == MAIN).then_some(Resumable { store, from_bytes: RESUME_FROM }),
            };
            (name(instance), Arc::new(options))
        };
        let instances = Instances::new("ByteStream", INSTANCES.map(instance));
        ByteStreamService::new(instances, Some(logs), Duration::from_secs(20))
    }

    fn action_cache(&self) -> ActionCacheService {
        let instance = |instance: &'static str| {
            let options = ActionCacheInstance {
                cache: Arc::clone(&self.caches[instance]),
                store: Some(Arc::clone(&self.store)),
                functions: functions(instance),
            };
            (name(instance), Arc::new(options))
        };
        ActionCacheService::new(Instances::new("ActionCache", INSTANCES.map(instance)))
    }

    fn capabilities(&self) -> CapabilitiesService {
        let instance = |instance: &'static str| {
            let tight = instance == TIGHT;
            let options = CapabilitiesInstance {
                functions: functions(instance),
                cas: Some(Part::Local(CasAbilities {
                    max_batch_bytes: if tight { TIGHT_BATCH } else { MAX_BATCH_BYTES },
                    max_blob_bytes: tight.then_some(TIGHT_BLOB),
                    chunking: (!tight).then(|| Chunking::new(self.chunking).parameters()),
                })),
                action_cache: Some(Part::Local(ActionCacheAbilities {
                    update_enabled: instance != READ_ONLY,
                })),
                execution: (instance == MAIN)
                    .then(|| ExecutionAbilities { priorities: (-100, 100), node_properties: Vec::new() }),
            };
            (name(instance), Arc::new(options))
        };
        CapabilitiesService::new(Instances::new("Capabilities", INSTANCES.map(instance)))
    }

    /// The main instance fetches from this machine too, the read-only one from one host alone.
    fn assets(&self) -> AssetService {
        let here = || Hosts::new(["127.0.0.1".to_owned()]);
        let instance = |instance: &'static str| {
            let origin = OriginOptions {
                hosts: if instance == READ_ONLY { here() } else { Hosts::default() },
                internal_hosts: match instance {
                    MAIN => Hosts::new(["127.0.0.1".to_owned(), "localhost".to_owned()]),
                    READ_ONLY => here(),
                    _ => Hosts::default(),
                },
                max_bytes: ASSET_BYTES,
                folder: self.folder.clone(),
                proxy: None,
            };
            let options = AssetInstance {
                store: Arc::clone(&self.store),
                assets: Arc::clone(&self.assets) as _,
                read_only: instance == READ_ONLY,
                functions: functions(instance),
                origin: Some(Arc::new(Origin::new(origin).unwrap())),
            };
            (name(instance), Arc::new(options))
        };
        AssetService::new(Instances::new("Fetch", INSTANCES.map(instance)), Arc::new(SystemClock))
    }

    async fn serve(&self) -> Channel {
        let logs = LogStreams::new(Arc::clone(&self.logs) as _, [name(MAIN), name(TIGHT)], "");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Routes::new(
            ContentAddressableStorageServer::new(self.cas()).max_decoding_message_size(MAX_RECEIVED_MESSAGE),
        )
        .add_service(Surrounded::new(
            Uncopied::new(self.bytestream(logs.clone()), MAX_RECEIVED_MESSAGE),
            ByteStreamServer::new(self.bytestream(logs.clone()))
                .max_decoding_message_size(MAX_RECEIVED_MESSAGE),
        ))
        .add_service(ActionCacheServer::new(self.action_cache()))
        .add_service(CapabilitiesServer::new(self.capabilities()))
        .add_service(PublishBuildEventServer::new(self.events.clone()))
        .add_service(QueryBuildEventsServer::new(self.events.clone()))
        .add_service(FetchServer::new(self.assets()))
        .add_service(PushServer::new(self.assets()))
        .add_service(LogStreamServiceServer::new(logs));
        let routes = queue::serve(routes, self.executing.clone());
        let service =
            ServiceBuilder::new().layer(Deadlines { idle: Duration::from_secs(60) }).service(routes);
        let ending = CancellationToken::new();
        tokio::spawn(async move {
            let accepted = TcpListenerStream::new(listener).map_ok(|stream| (stream, ()));
            transport::serve(&TransportOptions::default(), accepted, service, ending, || 0.5).await;
        });
        Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap()
    }
}

impl Grid {
    pub(crate) async fn start(kind: StoreKind) -> Self {
        let (database, folder) = sqlite().await;
        let observer = unobserved();
        let inner: SharedStore = match kind {
            StoreKind::Lru => Arc::new(Lru::new(LruOptions { size: 1 << 30, name: "lru".into(), observer })),
            StoreKind::Disk => {
                let path = folder.path().join("disk");
                let options = DiskOptions {
                    path,
                    max_size: None,
                    sync: false,
                    form: grid_cas::form::Form::Plain,
                    beside: false,
                    name: "disk".into(),
                    observer,
                };
                Arc::new(Disk::open(options, Arc::new(SystemClock)).await.unwrap())
            }
        };
        let store: SharedStore = Arc::new(Verify::new(inner));
        let clock = Arc::new(SystemClock);
        let events = SqlEventStore::new(database.clone(), clock.clone(), QueryLimits::default());
        let cache = |closed| {
            let cache: SharedCache = Arc::new(LruCache::new(1_000));
            if closed { Arc::new(ReadOnly::new(cache)) } else { cache }
        };
        let parts = Parts {
            store: Arc::clone(&store),
            uploads: Arc::new(SqlUploadStore::new(database.clone(), clock.clone())),
            logs: Arc::new(SqlLogStreamStore::new(database.clone(), clock.clone(), 1 << 20)),
            events: BuildEvents::new(Arc::new(events), EVENTS_BYTES),
            executing: queue::instances(&database, &store),
            assets: Arc::new(SqlAssetStore::new(database, clock)),
            folder: folder.path().to_owned(),
            caches: INSTANCES.map(|i| (i, cache(i == READ_ONLY))).into(),
            chunking: ChunkingOptions { avg_chunk_bytes: 16 << 10, ..ChunkingOptions::default() },
        };
        let (channel, replica) = (parts.serve().await, parts.serve().await);
        let web = WebServer::start().await;
        Self { channel, replica, store, web, _folder: Arc::new(folder) }
    }

    /// A server that is not ours, at an address. What rules store past the server they store by its own calls.
    pub(crate) async fn elsewhere(address: &str) -> Self {
        let url = format!("http://{address}");
        let channel = Endpoint::new(url.clone()).unwrap().connect().await.unwrap();
        let options = ConnectionOptions::new(&url, MAIN);
        let store: SharedStore = Arc::new(Remote::new(Connection::new(options).unwrap()));
        let web = WebServer::start().await;
        Self { replica: channel.clone(), channel, store, web, _folder: Arc::new(()) }
    }

    /// The same stores behind another server.
    pub(crate) fn other_replica(&self) -> Self {
        Self { channel: self.replica.clone(), replica: self.channel.clone(), ..self.clone() }
    }

    pub(crate) fn cas(&self) -> ContentAddressableStorageClient<Channel> {
        ContentAddressableStorageClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    pub(crate) fn bytestream(&self) -> ByteStreamClient<Channel> {
        ByteStreamClient::new(self.channel.clone())
    }

    pub(crate) fn action_cache(&self) -> ActionCacheClient<Channel> {
        ActionCacheClient::new(self.channel.clone())
    }

    pub(crate) fn capabilities(&self) -> CapabilitiesClient<Channel> {
        CapabilitiesClient::new(self.channel.clone())
    }

    pub(crate) fn logs(&self) -> LogStreamServiceClient<Channel> {
        LogStreamServiceClient::new(self.channel.clone())
    }

    /// Stores a blob past the server; gives its digest.
    pub(crate) async fn put(&self, content: impl Into<Bytes>) -> Digest {
        let content = content.into();
        let digest = sha256(&content);
        self.store.write_batch(vec![(digest, content)]).await.remove(0).unwrap();
        digest
    }

    /// Whether the store has a blob.
    pub(crate) async fn has(&self, digest: &Digest) -> bool {
        self.store.find_missing(&[*digest]).await.unwrap().is_empty()
    }
}

pub(crate) fn sha256(content: &[u8]) -> Digest {
    Digest::of(DigestFunction::Sha256, content)
}

pub(crate) fn wire(content: &[u8]) -> reapi::Digest {
    to_wire(&sha256(content))
}

/// Bytes that compress badly and differ by `seed`.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Fails unless the call was refused with `code`.
pub(crate) fn refused<T>(result: Result<T, Status>, code: Code) -> Status {
    match result {
        Ok(_) => panic!("succeeded; expected {code:?}"),
        Err(status) => {
            assert_eq!(status.code(), code, "{status:?}");
            status
        }
    }
}

/// Digests that are malformed, as messages carry them.
pub(crate) fn malformed_digests() -> Vec<reapi::Digest> {
    let hash = "a".repeat(64);
    let digest = |hash: &str, size_bytes| reapi::Digest { hash: hash.into(), size_bytes };
    vec![
        digest(&hash, -1),
        digest(&hash[1..], 1),
        digest(&"A".repeat(64), 1),
        digest(&"g".repeat(64), 1),
        digest("", 1),
        digest(&format!("{hash}aa"), 1),
        digest(&format!("../../{}", &hash[6..]), 1),
    ]
}
