//! The gRPC services over what the instances have, on every address alike.

use std::sync::Arc;

use grid_config::model::Compression;
use grid_core::SystemClock;
use grid_proto::asset::fetch_server::FetchServer;
use grid_proto::asset::push_server::PushServer;
use grid_proto::buildevents::publish_build_event_server::PublishBuildEventServer;
use grid_proto::buildgrid::introspection_server::IntrospectionServer;
use grid_proto::buildgrid::query_build_events_server::QueryBuildEventsServer;
use grid_proto::buildgrid::quota_server::QuotaServer;
use grid_proto::bytestream::byte_stream_server::ByteStreamServer;
use grid_proto::fleet::fleet_server::FleetServer;
use grid_proto::logstream::log_stream_service_server::LogStreamServiceServer;
use grid_proto::longrunning::operations_server::OperationsServer;
use grid_proto::reapi::action_cache_server::ActionCacheServer;
use grid_proto::reapi::capabilities_server::CapabilitiesServer;
use grid_proto::reapi::content_addressable_storage_server::ContentAddressableStorageServer;
use grid_proto::reapi::execution_server::ExecutionServer;
use grid_proto::rwapi::bots_server::BotsServer;
use grid_rpc::action_cache::ActionCacheService;
use grid_rpc::asset::AssetService;
use grid_rpc::bots::{BotsService, Trailing};
use grid_rpc::build_events::BuildEvents;
use grid_rpc::bytestream::{ByteStreamService, Uncopied};
use grid_rpc::capabilities::CapabilitiesService;
use grid_rpc::cas::CasService;
use grid_rpc::execution::ExecutionService;
use grid_rpc::fleet::FleetService;
use grid_rpc::http_cache::HttpCacheInstance;
use grid_rpc::introspection::IntrospectionService;
use grid_rpc::logstream::LogStreams;
use grid_rpc::operations::OperationsService;
use grid_rpc::quota::QuotaService;
use grid_rpc::transport::MAX_RECEIVED_MESSAGE;
use grid_rpc::transport::around::Surrounded;
use grid_rpc::{Instances, health};
use grid_streams::{QueryLimits, SqlEventStore, SqlLogStreamStore};
use tonic::codec::CompressionEncoding;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::server::HealthReporter;

use super::expiry::Expiring;
use super::instances::{IDLE, Parts, Streams};
use super::{ComposeError, Composer};

/// How many bytes one log stream may hold.
const MAX_LOG_BYTES: u64 = 64 << 20;

/// Adds a generated server where an instance has the service, with the limits and the compression of them all.
macro_rules! serve {
    ($self:ident, $routes:ident, $server:ident($service:expr) $(, $around:ident)?) => {{
        let mut server = $server::new($service).max_decoding_message_size($self.most_received());
        if let Some(limit) = $self.config.options.max_send_message {
            server = server.max_encoding_message_size(limit);
        }
        server = server.accept_compressed(CompressionEncoding::Gzip);
        if $self.config.compression == Compression::Gzip {
            server = server.send_compressed(CompressionEncoding::Gzip);
        }
        $routes.add_service($($around)?(server));
    }};
}

/// Everything that is served.
pub(super) struct Served {
    pub(super) routes: Routes,
    pub(super) http_cache: Instances<HttpCacheInstance>,
    pub(super) health: HealthReporter,
}

impl Composer<'_> {
    /// Everything that is served.
    pub(super) async fn services(&mut self) -> Result<Served, ComposeError> {
        let mut parts = self.parts().await?;
        let http_cache = Instances::new("HTTP cache", std::mem::take(&mut parts.http_cache));
        let mut routes = RoutesBuilder::default();
        let (reporter, health) = health::health();
        routes.add_service(health);
        if self.config.reflection {
            routes.add_service(health::reflection()?);
            routes.add_service(health::reflection_v1alpha()?);
        }
        let logs = self.streams(&parts, &mut routes).await?;
        self.cache_services(&parts, &mut routes);
        self.execution_services(parts, logs, &mut routes);
        Ok(Served { routes: routes.routes(), http_cache, health: reporter })
    }

    /// The most bytes of a message that comes in.
    fn most_received(&self) -> usize {
        self.config.options.max_receive_message.unwrap_or(MAX_RECEIVED_MESSAGE)
    }

    fn cache_services(&self, parts: &Parts, routes: &mut RoutesBuilder) {
        if !parts.action_cache.is_empty() {
            let instances = Instances::new("ActionCache", parts.action_cache.iter().cloned());
            serve!(self, routes, ActionCacheServer(ActionCacheService::new(instances)));
        }
        if !parts.assets.is_empty() {
            let instances = Instances::new("Remote Asset", parts.assets.iter().cloned());
            let assets = AssetService::new(instances, Arc::new(SystemClock));
            serve!(self, routes, FetchServer(assets.clone()));
            serve!(self, routes, PushServer(assets));
        }
        if !parts.cas.is_empty() {
            let instances = Instances::new("ContentAddressableStorage", parts.cas.iter().cloned());
            serve!(self, routes, ContentAddressableStorageServer(CasService::new(instances)));
        }
    }

    fn execution_services(&self, parts: Parts, logs: Option<LogStreams>, routes: &mut RoutesBuilder) {
        if !parts.execution.is_empty() {
            let instances = Instances::new("Execution", parts.execution);
            serve!(self, routes, ExecutionServer(ExecutionService::new(instances)));
        }
        if !parts.operations.is_empty() {
            let instances = Instances::new("Operations", parts.operations);
            serve!(self, routes, OperationsServer(OperationsService::new(instances)), Trailing);
        }
        if !parts.bots.is_empty() {
            let instances = Instances::new("Bots", parts.bots);
            serve!(self, routes, BotsServer(BotsService::new(instances, logs)), Trailing);
        }
        if !parts.introspection.is_empty() {
            let instances = Instances::new("Introspection", parts.introspection);
            serve!(self, routes, IntrospectionServer(IntrospectionService::new(instances)));
        }
        if let Some(scheduler) = parts.fleet {
            serve!(self, routes, FleetServer(FleetService::new(scheduler)));
        }
        if !parts.quotas.is_empty() {
            serve!(self, routes, QuotaServer(QuotaService::new(Instances::new("Quota", parts.quotas))));
        }
        let instances = Instances::new("Capabilities", parts.capabilities);
        serve!(self, routes, CapabilitiesServer(CapabilitiesService::new(instances)));
    }

    /// ByteStream serves blobs and log streams alike. Gives the log streams, for the bots' leases.
    async fn streams(
        &mut self,
        parts: &Parts,
        routes: &mut RoutesBuilder,
    ) -> Result<Option<LogStreams>, ComposeError> {
        let logs = match &parts.logstream {
            Some(streams) => Some(self.log_streams(streams).await?),
            None => None,
        };
        if let Some(logs) = &logs {
            serve!(self, routes, LogStreamServiceServer(logs.clone()));
        }
        if logs.is_some() || !parts.bytestream.is_empty() {
            let instances = Instances::new("ByteStream", parts.bytestream.iter().cloned());
            let service = ByteStreamService::new(instances, logs.clone(), IDLE);
            // What compresses messages or limits them takes them whole.
            let whole = self.config.compression == Compression::Gzip
                || self.config.options.max_send_message.is_some();
            let reads = (!whole).then(|| Uncopied::new(service.clone(), self.most_received()));
            let uncopied = |server| Surrounded::new(reads, server);
            serve!(self, routes, ByteStreamServer(service), uncopied);
        }
        if let Some(service) = &parts.build_events {
            let database = self.database_of(service.sql.as_ref()).await?;
            let limits = QueryLimits { answer_bytes: service.max_answer, ..QueryLimits::default() };
            let store = Arc::new(SqlEventStore::new(database, Arc::new(SystemClock), limits));
            self.expiry.add(Expiring::Events(Arc::clone(&store)), service.retention);
            let events = BuildEvents::new(store, service.max_stream_size);
            serve!(self, routes, PublishBuildEventServer(events.clone()));
            serve!(self, routes, QueryBuildEventsServer(events));
        }
        Ok(logs)
    }

    async fn log_streams(&mut self, streams: &Streams) -> Result<LogStreams, ComposeError> {
        let database = self.database_of(streams.service.sql.as_ref()).await?;
        let store = Arc::new(SqlLogStreamStore::new(database, Arc::new(SystemClock), MAX_LOG_BYTES));
        self.expiry.add(Expiring::Logs(Arc::clone(&store)), streams.service.retention);
        Ok(LogStreams::new(store, streams.instances.iter().cloned(), &streams.service.prefix))
    }
}
