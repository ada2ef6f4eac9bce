//! From what a configuration says to what serves it: one exhaustive match a kind of object, one function a variant.
//!
//! An object of the configuration is made once, when something that is served first needs it, whatever the number of its
//! aliases; what nothing needs is never made. A remote store or cache that names no instance speaks for whichever instance
//! is called here, so that it and what contains it are made once an instance name.

mod abilities;
mod assets;
pub(crate) mod authorization;
mod caches;
mod databases;
mod elsewhere;
mod expiry;
mod imports;
mod indexes;
mod instances;
mod metering;
pub(crate) mod needs;
mod records;
mod redis;
mod remembered;
mod remotes;
mod s3;
mod schedulers;
mod services;
mod storages;
mod uploads;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use grid_cache::SharedCache;
use grid_cache::observer::SharedCacheObserver;
use grid_cas::buildgrid::BuildGrid;
use grid_cas::client::Connection;
use grid_cas::decorators::with_cache::WithCache;
use grid_cas::fsck::Indexed;
use grid_cas::observer::SharedObserver;
use grid_cas::redis_client::RedisConnection;
use grid_cas::{Inventory, SharedStore};
use grid_config::ServerConfig;
use grid_config::model::{Item, Remote};
use grid_core::InstanceName;
use grid_rpc::Instances;
use grid_rpc::execution::Records;
use grid_rpc::execution::metering::Metering;
use grid_rpc::http_cache::HttpCacheInstance;
use grid_scheduler::Scheduler;
use grid_scheduler_sql::Database;
use grid_telemetry::Metrics;
use grid_telemetry::bus::Bus;
use grid_telemetry::caches::CacheMetrics;
use grid_telemetry::scheduler::SchedulerMetrics;
use grid_telemetry::stores::StoreMetrics;
use thiserror::Error;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

pub(crate) use self::elsewhere::beside;
pub(crate) use self::imports::{Import, Source, imports};
pub(crate) use self::indexes::Found;
use self::needs::Needs;
pub(crate) use self::records::Executions;
use crate::cleaning::Cleaner;
use crate::readiness::Dependency;
use crate::settings;

/// Why a sound configuration can't be served here and now.
#[derive(Debug, Error)]
pub(crate) enum ComposeError {
    #[error("{place}: {source}")]
    Store { place: String, source: grid_cas::StoreError },
    #[error("{place}: {source}")]
    Cache { place: String, source: grid_cache::CacheError },
    #[error("{place}: {source}")]
    Database { place: String, source: grid_scheduler_sql::DatabaseError },
    #[error("{place}: {source}")]
    Schema { place: String, source: grid_scheduler_sql::migrate::SchemaError },
    #[error("{place}: {what}")]
    Contradiction { place: String, what: String },
    #[error("the state directory {path} can't be made: {source}; say `state-directory: PATH`")]
    StateDirectory { path: PathBuf, source: std::io::Error },
    #[error("the server's own descriptors can't be read: {0}")]
    Descriptors(#[from] tonic_reflection::server::Error),
}

/// Everything that is served.
pub(crate) struct Composed {
    /// The gRPC services.
    pub(crate) routes: Routes,
    /// What Bazel's HTTP cache serves.
    pub(crate) http_cache: Instances<HttpCacheInstance>,
    /// What they need.
    pub(crate) needs: Needs,
    /// What may be away of that.
    pub(crate) dependencies: Vec<Dependency>,
    /// The pools of connections to databases, by their names in metrics.
    pub(crate) pools: Vec<(String, Database)>,
    /// The health service's tongue.
    pub(crate) health: HealthReporter,
    /// What may have writes to make after the last call.
    pub(crate) deferring: Vec<Arc<WithCache>>,
    /// What is kept within bounds while it is served.
    pub(crate) cleaners: Vec<Cleaner>,
    /// Files that go with the process.
    pub(crate) _temporary: Vec<tempfile::TempDir>,
}

/// What is made so far.
pub(crate) struct Composer<'a> {
    config: &'a ServerConfig,
    observer: SharedObserver,
    cache_observer: SharedCacheObserver,
    /// Whether another process serves what is made here.
    beside: bool,
    /// Whether databases are brought to this version's schema, whatever their connections say.
    migrates: bool,
    jobs: Arc<SchedulerMetrics>,
    storages: HashMap<Key, SharedStore>,
    roots: HashMap<Key, SharedStore>,
    /// The backends among the storages.
    inventories: HashMap<Key, Arc<dyn Inventory>>,
    caches: HashMap<Key, SharedCache>,
    schedulers: HashMap<Key, Arc<Scheduler>>,
    records: HashMap<Key, Records>,
    databases: HashMap<Key, Database>,
    /// All of them, by their names in metrics.
    pools: Vec<(String, Database)>,
    redis: HashMap<Key, Arc<RedisConnection>>,
    metering: HashMap<Key, Arc<Metering>>,
    connections: Vec<(Remote, String, Connection)>,
    indexes: HashMap<Key, Indexed>,
    /// What BuildGrid may have beside those of the indexes that are in PostgreSQL.
    buildgrids: HashMap<Key, BuildGrid>,
    index_rows: HashSet<(String, String)>,
    state_database: Option<Database>,
    deferring: Vec<Arc<WithCache>>,
    dependencies: Vec<Dependency>,
    expiry: expiry::Expiry,
    temporary: Vec<tempfile::TempDir>,
}

/// An object, and the instance that it speaks for where it speaks for one.
type Key = (usize, Option<InstanceName>);

fn key<T>(item: &Arc<Item<T>>, instance: Option<&InstanceName>) -> Key {
    (Arc::as_ptr(item).addr(), instance.cloned())
}

/// Makes everything that a configuration serves. Must be called within a runtime.
pub(crate) async fn compose(
    config: &ServerConfig,
    metrics: &Metrics,
    bus: Option<Bus>,
) -> Result<Composed, ComposeError> {
    let mut composer = Composer::new(config, metrics, bus);
    let services::Served { routes, http_cache, health } = composer.services().await?;
    std::mem::take(&mut composer.expiry).start();
    let cleaners = composer.cleaners(false).await?;
    Ok(Composed {
        routes,
        http_cache,
        health,
        needs: needs::needs(config),
        cleaners,
        deferring: composer.deferring,
        dependencies: composer.dependencies,
        pools: composer.pools,
        _temporary: composer.temporary,
    })
}

/// Makes what cleans the storages of a configuration that another process serves. Must be called within a runtime.
pub(crate) async fn cleaners(
    config: &ServerConfig,
    metrics: &Metrics,
    bus: Option<Bus>,
) -> Result<Vec<Cleaner>, ComposeError> {
    let mut composer = Composer { beside: true, ..Composer::new(config, metrics, bus) };
    composer.cleaners(true).await
}

/// Makes the indexes of a configuration that another process serves. Must be called within a runtime.
pub(crate) async fn indexes(config: &ServerConfig) -> Result<Vec<Found>, ComposeError> {
    let mut composer = Composer { beside: true, ..Composer::new(config, &Metrics::default(), None) };
    composer.all_indexed().await
}

/// What is kept of the executions of a configuration that another process serves, and the caches with their results. Must
/// be called within a runtime.
pub(crate) async fn executions(config: &ServerConfig) -> Result<Vec<Executions>, ComposeError> {
    let mut composer = Composer { beside: true, ..Composer::new(config, &Metrics::default(), None) };
    composer.executions().await
}

impl<'a> Composer<'a> {
    fn new(config: &'a ServerConfig, metrics: &Metrics, bus: Option<Bus>) -> Self {
        Self {
            config,
            beside: false,
            migrates: false,
            observer: Arc::new(StoreMetrics::new(metrics, bus.clone())),
            cache_observer: Arc::new(CacheMetrics::new(metrics, bus.clone())),
            jobs: Arc::new(SchedulerMetrics::new(metrics, bus)),
            storages: HashMap::new(),
            roots: HashMap::new(),
            inventories: HashMap::new(),
            caches: HashMap::new(),
            schedulers: HashMap::new(),
            records: HashMap::new(),
            databases: HashMap::new(),
            pools: Vec::new(),
            redis: HashMap::new(),
            metering: HashMap::new(),
            connections: Vec::new(),
            indexes: HashMap::new(),
            buildgrids: HashMap::new(),
            index_rows: HashSet::new(),
            state_database: None,
            deferring: Vec::new(),
            dependencies: Vec::new(),
            expiry: expiry::Expiry::default(),
            temporary: Vec::new(),
        }
    }
}

impl Composer<'_> {
    /// The state directory, made where it isn't there.
    fn state_directory(&self) -> Result<PathBuf, ComposeError> {
        let configured = self.config.state_directory.clone();
        let path = configured.or_else(settings::state_home).unwrap_or_else(|| PathBuf::from("buildgrid"));
        match std::fs::create_dir_all(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(ComposeError::StateDirectory { path, source }),
        }
    }
}
