//! What each gRPC service can't do without: so that the health service tells of each by its name.

use std::collections::{BTreeMap, BTreeSet};

use grid_config::ServerConfig;
use grid_config::model::{ActionCache, Scheduler, ServerService, Service, Shared, SqlConnection};
use grid_proto::asset::{fetch_server, push_server};
use grid_proto::buildevents::publish_build_event_server;
use grid_proto::buildgrid::{introspection_server, query_build_events_server, quota_server};
use grid_proto::bytestream::byte_stream_server;
use grid_proto::fleet::fleet_server;
use grid_proto::logstream::log_stream_service_server;
use grid_proto::longrunning::operations_server;
use grid_proto::reapi::{
    action_cache_server, capabilities_server, content_addressable_storage_server, execution_server,
};
use grid_proto::rwapi::bots_server;

use super::databases;

/// The names of dependencies by the full names of services. A name that is no dependency's stands for something that can't
/// be away.
pub(crate) type Needs = BTreeMap<&'static str, BTreeSet<String>>;

/// What the services of a configuration need.
pub(super) fn needs(config: &ServerConfig) -> Needs {
    let mut needs = Needs::from([(capabilities_server::SERVICE_NAME, BTreeSet::new())]);
    for service in config.instances.iter().flat_map(|instance| &instance.services) {
        let names = names(&service.value);
        let wanted = wanted(&service.value);
        for name in names {
            needs.entry(name).or_default().extend(wanted.iter().cloned());
        }
    }
    for service in &config.services {
        let ServerService::Quota(quotas) = &service.value;
        needs.entry(quota_server::SERVICE_NAME).or_default().insert(quotas.scheduler.place.to_string());
    }
    needs
}

/// The gRPC services that an entry of the configuration stands for.
fn names(service: &Service) -> Vec<&'static str> {
    match service {
        Service::ActionCache(_) => vec![action_cache_server::SERVICE_NAME],
        Service::Cas(_) => vec![content_addressable_storage_server::SERVICE_NAME],
        Service::ByteStream(_) => vec![byte_stream_server::SERVICE_NAME],
        Service::Execution(execution) => [
            (execution.endpoints.execution, execution_server::SERVICE_NAME),
            (execution.endpoints.operations, operations_server::SERVICE_NAME),
            (execution.endpoints.bots, bots_server::SERVICE_NAME),
        ]
        .into_iter()
        .filter_map(|(served, name)| served.then_some(name))
        .collect(),
        Service::Bots(_) => vec![bots_server::SERVICE_NAME],
        Service::Operations(_) => vec![operations_server::SERVICE_NAME],
        Service::Fleet(_) => vec![fleet_server::SERVICE_NAME],
        Service::Introspection(_) => vec![introspection_server::SERVICE_NAME],
        Service::LogStream(_) => {
            vec![log_stream_service_server::SERVICE_NAME, byte_stream_server::SERVICE_NAME]
        }
        Service::BuildEvents(_) => {
            vec![publish_build_event_server::SERVICE_NAME, query_build_events_server::SERVICE_NAME]
        }
        Service::RemoteAsset(_) => vec![fetch_server::SERVICE_NAME, push_server::SERVICE_NAME],
    }
}

fn wanted(service: &Service) -> Vec<String> {
    let database = |sql: &Option<Shared<SqlConnection>>| databases::name(sql.as_ref());
    match service {
        Service::ActionCache(service) => cache(&service.cache),
        Service::Cas(cas) => vec![cas.storage.place.to_string()],
        // Where unfinished uploads wait is no need: without it they start again.
        Service::ByteStream(stream) => {
            stream.storage.iter().map(|storage| storage.place.to_string()).collect()
        }
        Service::Execution(execution) => scheduler(&execution.scheduler),
        Service::Bots(bots) => scheduler(&bots.scheduler),
        Service::Operations(operations) => vec![operations.scheduler.place.to_string()],
        Service::Fleet(fleet) => vec![fleet.scheduler.place.to_string()],
        Service::Introspection(looks) => vec![looks.scheduler.place.to_string()],
        Service::LogStream(logs) => vec![database(&logs.sql)],
        Service::BuildEvents(events) => vec![database(&events.sql)],
        Service::RemoteAsset(assets) => vec![assets.storage.place.to_string(), database(&assets.sql)],
    }
}

fn scheduler(item: &Shared<Scheduler>) -> Vec<String> {
    let mut wanted = vec![item.place.to_string(), item.storage.place.to_string()];
    wanted.extend(item.action_cache.iter().flat_map(cache));
    wanted
}

fn cache(item: &Shared<ActionCache>) -> Vec<String> {
    let mut wanted = vec![item.place.to_string()];
    match &item.value {
        ActionCache::Lru(lru) => wanted.push(lru.storage.place.to_string()),
        // What is behind a cache in front is asked for what the cache does not have.
        ActionCache::WithCache(with) => {
            wanted.extend([&with.cache, &with.fallback].into_iter().flat_map(cache));
        }
        ActionCache::Mirrored(both) => wanted.extend([&both.first, &both.second].into_iter().flat_map(cache)),
        ActionCache::Sharded(sharded) => {
            wanted.extend(sharded.shards.iter().flat_map(|shard| cache(&shard.cache)));
        }
        ActionCache::WriteOnce(once) => wanted.extend(cache(&once.action_cache)),
        ActionCache::Redis(redis) => wanted.push(redis.storage.place.to_string()),
        ActionCache::Sql(sql) => {
            wanted.extend([sql.storage.place.to_string(), databases::name(sql.sql.as_ref())]);
        }
        ActionCache::S3(s3) => wanted.push(s3.storage.place.to_string()),
        ActionCache::Remote(_) => {}
    }
    wanted
}
