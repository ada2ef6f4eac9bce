//! The services of each instance, gathered into one gRPC service each for all instances.

use std::sync::Arc;
use std::time::Duration;

use grid_cache::SharedCache;
use grid_cas::SharedStore;
use grid_config::model::{self, Endpoints, Instance, ServerService, Service, Shared};
use grid_core::InstanceName;
use grid_rpc::action_cache::ActionCacheInstance;
use grid_rpc::asset::AssetInstance;
use grid_rpc::bytestream::ByteStreamInstance;
use grid_rpc::capabilities::CapabilitiesInstance;
use grid_rpc::cas::tree::TreeLimits;
use grid_rpc::cas::{CasInstance, Chunking, ChunkingOptions};
use grid_rpc::digests::{Functions, all_functions};
use grid_rpc::execution::ExecutionInstance;
use grid_rpc::http_cache::{self, HttpCacheInstance};
use grid_rpc::transport::MAX_BATCH_BYTES;
use grid_scheduler::Scheduler;

use super::schedulers::Agreed;
use super::{ComposeError, Composer, abilities};

/// What the services need of each instance, service by service.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) action_cache: Vec<(InstanceName, Arc<ActionCacheInstance>)>,
    results: Vec<(InstanceName, SharedCache)>,
    pub(super) cas: Vec<(InstanceName, Arc<CasInstance>)>,
    pub(super) bytestream: Vec<(InstanceName, Arc<ByteStreamInstance>)>,
    pub(super) execution: Vec<(InstanceName, Arc<ExecutionInstance>)>,
    pub(super) operations: Vec<(InstanceName, Arc<ExecutionInstance>)>,
    pub(super) bots: Vec<(InstanceName, Arc<ExecutionInstance>)>,
    pub(super) introspection: Vec<(InstanceName, Arc<ExecutionInstance>)>,
    pub(super) capabilities: Vec<(InstanceName, Arc<CapabilitiesInstance>)>,
    pub(super) assets: Vec<(InstanceName, Arc<AssetInstance>)>,
    pub(super) http_cache: Vec<(InstanceName, Arc<HttpCacheInstance>)>,
    pub(super) fleet: Option<Arc<Scheduler>>,
    pub(super) quotas: Vec<(InstanceName, Arc<Scheduler>)>,
    pub(super) logstream: Option<Streams>,
    pub(super) build_events: Option<model::BuildEvents>,
}

/// The log streams of a server.
pub(super) struct Streams {
    pub(super) instances: Vec<InstanceName>,
    pub(super) service: model::LogStream,
}

impl Composer<'_> {
    /// Makes what the services need of every instance.
    pub(super) async fn parts(&mut self) -> Result<Parts, ComposeError> {
        let mut parts = Parts::default();
        let config = self.config;
        for instance in &config.instances {
            for name in &instance.names {
                self.instance(instance, name, &mut parts).await?;
            }
        }
        for service in &config.services {
            let ServerService::Quota(quotas) = &service.value;
            let (scheduler, _) = self.scheduler(&quotas.scheduler).await?;
            let names = config.instances.iter().flat_map(|instance| &instance.names);
            parts.quotas = names.map(|name| (name.clone(), Arc::clone(&scheduler))).collect();
        }
        Ok(parts)
    }

    async fn instance(
        &mut self,
        instance: &Instance,
        name: &InstanceName,
        parts: &mut Parts,
    ) -> Result<(), ComposeError> {
        let mut able =
            CapabilitiesInstance { functions: functions(), cas: None, action_cache: None, execution: None };
        let blobs = self.blobs(instance, name).await?;
        let mut executed = None;
        for item in &instance.services {
            match &item.value {
                Service::Cas(cas) => {
                    let served = self.cas(cas, name).await?;
                    able.cas = Some(self.served_blobs(&served, instance, &cas.storage, name)?);
                    parts.cas.push((name.clone(), Arc::new(served)));
                }
                Service::ByteStream(stream) => {
                    // Without storage it stands for the log streams of the server, which need no more said.
                    if let Some(storage) = &stream.storage {
                        let served = self.bytestream(stream, storage, name).await?;
                        parts.bytestream.push((name.clone(), Arc::new(served)));
                    }
                }
                Service::ActionCache(service) => {
                    able.action_cache = Some(self.served_results(&service.cache, name).await?);
                    self.results(service, name, blobs.clone(), parts).await?;
                }
                Service::Execution(execution) => {
                    if execution.endpoints.execution {
                        able.execution = Some(abilities::execution());
                        let (_, agreed) = self.scheduler(&execution.scheduler).await?;
                        executed = Some(agreed);
                    }
                    let served = Arc::new(self.execution(execution, name).await?);
                    parts.add(execution.endpoints, name, &served);
                }
                Service::Bots(_) | Service::Operations(_) | Service::Introspection(_) => {
                    self.scheduled(&item.value, name, parts).await?;
                }
                Service::LogStream(service) => parts.log_stream(service, name, item)?,
                Service::BuildEvents(service) => parts.events(service, name, item)?,
                Service::RemoteAsset(assets) => {
                    parts.assets.push((name.clone(), Arc::new(self.asset(assets, item, name).await?)));
                }
                Service::Fleet(fleet) => {
                    let (scheduler, _) = self.scheduler(&fleet.scheduler).await?;
                    parts.fleet(&scheduler, item)?;
                }
            }
        }
        parts.http_cache(name);
        if let Some(agreed) = executed {
            self.elsewhere(&agreed, name, &mut able).await?;
        }
        parts.capabilities.push((name.clone(), Arc::new(able)));
        Ok(())
    }

    /// Adds the results of an instance.
    async fn results(
        &mut self,
        service: &model::ActionCacheService,
        name: &InstanceName,
        store: Option<SharedStore>,
        parts: &mut Parts,
    ) -> Result<(), ComposeError> {
        let results = self.cache(&service.cache, name).await?;
        let cache = self.by_grpc(Arc::clone(&results));
        let served = ActionCacheInstance { cache, store, functions: functions() };
        parts.results.push((name.clone(), results));
        parts.action_cache.push((name.clone(), Arc::new(served)));
        Ok(())
    }

    /// Results as gRPC services have them.
    fn by_grpc(&self, results: SharedCache) -> SharedCache {
        if self.config.http_cache.is_empty() { results } else { Arc::new(http_cache::Shared::new(results)) }
    }

    /// Adds a service that is nothing but a scheduler's.
    async fn scheduled(
        &mut self,
        service: &Service,
        name: &InstanceName,
        parts: &mut Parts,
    ) -> Result<(), ComposeError> {
        let (list, scheduler) = match service {
            Service::Bots(bots) => (&mut parts.bots, &bots.scheduler),
            Service::Operations(operations) => (&mut parts.operations, &operations.scheduler),
            Service::Introspection(looks) => (&mut parts.introspection, &looks.scheduler),
            _ => return Ok(()),
        };
        let mut served = self.execution_instance(scheduler, name).await?;
        if let Service::Bots(bots) = service {
            served.long_poll_during_execution = bots.long_poll_when_busy;
        }
        if let Service::Operations(operations) = service {
            served.max_list_page_size = operations.max_page_size;
        }
        list.push((name.clone(), Arc::new(served)));
        Ok(())
    }

    /// Adds what an instance that executes does not serve itself.
    async fn elsewhere(
        &mut self,
        agreed: &Agreed,
        name: &InstanceName,
        able: &mut CapabilitiesInstance,
    ) -> Result<(), ComposeError> {
        if able.cas.is_none() {
            able.cas = Some(self.blobs_elsewhere(&agreed.storage, name)?);
        }
        if let (None, Some(cache)) = (&able.action_cache, &agreed.action_cache) {
            able.action_cache = Some(self.results_elsewhere(cache, name).await?);
        }
        Ok(())
    }

    /// The storage that an instance serves, from which answers are filled.
    async fn blobs(
        &mut self,
        instance: &Instance,
        name: &InstanceName,
    ) -> Result<Option<SharedStore>, ComposeError> {
        for service in &instance.services {
            if let Service::Cas(cas) = &service.value {
                return self.root(&cas.storage, name).await.map(Some);
            }
        }
        Ok(None)
    }

    async fn cas(&mut self, cas: &model::Cas, name: &InstanceName) -> Result<CasInstance, ComposeError> {
        Ok(CasInstance {
            store: self.root(&cas.storage, name).await?,
            read_only: cas.read_only,
            functions: functions(),
            max_batch_bytes: MAX_BATCH_BYTES,
            max_blob_bytes: cas.max_blob_size,
            tree: TreeLimits::default(),
            chunking: cas.chunking.then(|| Arc::new(Chunking::new(ChunkingOptions::default()))),
        })
    }

    async fn bytestream(
        &mut self,
        stream: &model::ByteStream,
        storage: &Shared<model::Storage>,
        name: &InstanceName,
    ) -> Result<ByteStreamInstance, ComposeError> {
        Ok(ByteStreamInstance {
            store: self.root(storage, name).await?,
            read_only: stream.read_only,
            early_return: !stream.always_receive,
            functions: functions(),
            max_blob_bytes: stream.max_blob_size,
            uploads: self.uploads(stream).await?,
        })
    }

    async fn execution(
        &mut self,
        execution: &model::Execution,
        name: &InstanceName,
    ) -> Result<ExecutionInstance, ComposeError> {
        let instance = self.execution_instance(&execution.scheduler, name).await?;
        Ok(ExecutionInstance {
            command_allowlist: execution.command_allowlist.clone().unwrap_or_default(),
            operation_stream_keepalive: execution.stream_keepalive,
            max_list_page_size: execution.max_page_size,
            long_poll_during_execution: execution.long_poll_when_busy,
            ..instance
        })
    }

    async fn execution_instance(
        &mut self,
        scheduler: &Shared<model::Scheduler>,
        name: &InstanceName,
    ) -> Result<ExecutionInstance, ComposeError> {
        let (running, agreed) = self.scheduler(scheduler).await?;
        let storage = self.root(&agreed.storage, name).await?;
        let cache = match &agreed.action_cache {
            Some(cache) => {
                let results = self.cache(cache, name).await?;
                Some(self.by_grpc(results))
            }
            None => None,
        };
        let own = scheduler
            .instanced_browser_urls
            .iter()
            .find(|entry| entry.instances.iter().any(|i| i == name.as_str()));
        let action_browser_url = own.map(|entry| entry.url.clone()).or(agreed.browser_url);
        Ok(ExecutionInstance {
            functions: functions(),
            action_browser_url,
            records: self.records(scheduler),
            metering: self.metering(scheduler)?,
            logs_elsewhere: self.logs_elsewhere(scheduler)?,
            ..ExecutionInstance::new(running, storage, cache)
        })
    }
}

impl Parts {
    fn add(&mut self, endpoints: Endpoints, name: &InstanceName, served: &Arc<ExecutionInstance>) {
        let lists = [
            (endpoints.execution, &mut self.execution),
            (endpoints.operations, &mut self.operations),
            (endpoints.bots, &mut self.bots),
        ];
        for (wanted, list) in lists {
            if wanted {
                list.push((name.clone(), Arc::clone(served)));
            }
        }
    }

    /// An instance with blobs and results can serve them by HTTP too.
    fn http_cache(&mut self, name: &InstanceName) {
        let cas = self.cas.last().filter(|(of, _)| of == name).map(|(_, cas)| cas);
        let results = self.results.last().filter(|(of, _)| of == name).map(|(_, results)| results);
        if let (Some(cas), Some(results)) = (cas, results) {
            let served = HttpCacheInstance {
                store: Arc::clone(&cas.store),
                cache: Arc::clone(results),
                read_only: cas.read_only,
                max_blob_bytes: cas.max_blob_bytes,
            };
            self.http_cache.push((name.clone(), Arc::new(served)));
        }
    }

    /// There is one Fleet service, and its calls name no instance.
    fn fleet(&mut self, scheduler: &Arc<Scheduler>, item: &Shared<Service>) -> Result<(), ComposeError> {
        let first = self.fleet.get_or_insert_with(|| Arc::clone(scheduler));
        if Arc::ptr_eq(first, scheduler) { Ok(()) } else { Err(differs(item)) }
    }

    /// There is one LogStream service, whatever the number of instances that have it.
    fn log_stream(
        &mut self,
        service: &model::LogStream,
        name: &InstanceName,
        item: &Shared<Service>,
    ) -> Result<(), ComposeError> {
        let streams =
            self.logstream.get_or_insert_with(|| Streams { instances: Vec::new(), service: service.clone() });
        if streams.service != *service {
            return Err(differs(item));
        }
        streams.instances.push(name.clone());
        Ok(())
    }

    /// There is one Build Events service; its calls name no instance.
    fn events(
        &mut self,
        service: &model::BuildEvents,
        _name: &InstanceName,
        item: &Shared<Service>,
    ) -> Result<(), ComposeError> {
        let first = self.build_events.get_or_insert_with(|| service.clone());
        if first == service { Ok(()) } else { Err(differs(item)) }
    }
}

fn differs(item: &Shared<Service>) -> ComposeError {
    let what = "all instances share this service, so that they must say the same about it; use one anchor";
    ComposeError::Contradiction { place: item.place.to_string(), what: what.to_owned() }
}

fn functions() -> Functions {
    all_functions()
}

/// How long a client may pause within an upload.
pub(super) const IDLE: Duration = Duration::from_secs(120);
