//! For how long caches of existence in front of an index vouch for its blobs without asking it.
//!
//! Whoever cleans an index deletes behind the back of such a cache. So it waits for that much longer than was promised: no
//! client is told of a blob less than the promised lifetime before it may go.

use std::sync::Arc;
use std::time::Duration;

use grid_config::ServerConfig;
use grid_config::model::{ActionCache, Scheduler, SchedulerOverrides, Service, Shared, Storage};

use super::indexes::parts;

/// The longest time after the index was asked for a blob for which something of this configuration says that it is there.
pub(super) fn remembered(config: &ServerConfig, index: &Shared<Storage>) -> Duration {
    let services = config.instances.iter().flat_map(|instance| &instance.services);
    let served = services.flat_map(|service| of_service(&service.value));
    let schedulers = config.schedulers.iter().flat_map(|scheduler| of_scheduler(&scheduler.value));
    let caches = config.caches.iter().flat_map(|cache| of_cache(&cache.value));
    let all = config.storages.iter().chain(served).chain(schedulers).chain(caches);
    all.filter_map(|item| above(item, index)).max().unwrap_or_default()
}

/// The storages that a service answers from, itself or through what it uses.
fn of_service(service: &Service) -> Vec<&Shared<Storage>> {
    match service {
        Service::Cas(cas) => vec![&cas.storage],
        Service::ByteStream(stream) => stream.storage.iter().collect(),
        Service::RemoteAsset(assets) => vec![&assets.storage],
        Service::ActionCache(service) => of_cache(&service.cache.value),
        Service::Execution(service) => of_schedulers(&service.scheduler, &service.overrides),
        Service::Bots(service) => of_schedulers(&service.scheduler, &service.overrides),
        Service::Operations(_)
        | Service::Fleet(_)
        | Service::Introspection(_)
        | Service::LogStream(_)
        | Service::BuildEvents(_) => Vec::new(),
    }
}

fn of_schedulers<'c>(
    scheduler: &'c Shared<Scheduler>,
    overrides: &'c SchedulerOverrides,
) -> Vec<&'c Shared<Storage>> {
    let own = overrides.storage.iter();
    let cached = overrides.action_cache.iter().flat_map(|cache| of_cache(&cache.value));
    own.chain(cached).chain(of_scheduler(&scheduler.value)).collect()
}

fn of_scheduler(scheduler: &Scheduler) -> Vec<&Shared<Storage>> {
    let cached = scheduler.action_cache.iter().flat_map(|cache| of_cache(&cache.value));
    std::iter::once(&scheduler.storage).chain(cached).collect()
}

/// The storages that an action cache looks into for what its results name.
fn of_cache(cache: &ActionCache) -> Vec<&Shared<Storage>> {
    match cache {
        ActionCache::Lru(cache) => vec![&cache.storage],
        ActionCache::Redis(cache) => vec![&cache.storage],
        ActionCache::S3(cache) => vec![&cache.storage],
        ActionCache::Sql(cache) => vec![&cache.storage],
        ActionCache::Remote(_) => Vec::new(),
        ActionCache::WithCache(with) => of_caches([&with.cache, &with.fallback]),
        ActionCache::Mirrored(mirrored) => of_caches([&mirrored.first, &mirrored.second]),
        ActionCache::Sharded(sharded) => of_caches(sharded.shards.iter().map(|shard| &shard.cache)),
        ActionCache::WriteOnce(once) => of_cache(&once.action_cache.value),
    }
}

fn of_caches<'c>(caches: impl IntoIterator<Item = &'c Shared<ActionCache>>) -> Vec<&'c Shared<Storage>> {
    caches.into_iter().flat_map(|cache| of_cache(&cache.value)).collect()
}

/// The same of one storage, where the index is a part of it.
fn above(item: &Shared<Storage>, index: &Shared<Storage>) -> Option<Duration> {
    if Arc::ptr_eq(item, index) {
        return Some(Duration::ZERO);
    }
    let below = parts(item).into_iter().filter_map(|part| above(part, index)).max()?;
    Some(match &item.value {
        Storage::RedisFmbCache(cache) => below + cache.ttl,
        Storage::ExistenceCache(cache) => below + cache.ttl,
        _ => below,
    })
}

#[cfg(test)]
mod tests {
    use grid_config::{Machine, load};

    use super::*;

    #[test]
    fn times_of_caches_one_over_the_other_add_up() {
        let text = "
server: [!channel {address: 'unix:s', insecure-mode: yes}]
connections: [!sql-connection &sql {connection-string: 'sqlite:///x'}]
storages:
  - !lru-storage &blobs {size: 1M}
  - !sql-index &index {storage: *blobs, sql: *sql}
  - !redis-fmb-cache &shared {storage: *index, redis: !redis-connection {host: h, port: 1}, ttl-secs: 100}
  - !existence-cache &own {storage: *shared, ttl-secs: 10}
instances:
  - name: ''
    services:
      - !cas {storage: !existence-cache {storage: *own, ttl-secs: 1}}
      - !bytestream {storage: *index}
";
        let config = load(text, &Machine).config.unwrap();
        assert_eq!(remembered(&config, &config.storages[1]), Duration::from_secs(111));
        assert_eq!(remembered(&config, &config.storages[3]), Duration::from_secs(1));
    }
    #[test]
    fn caches_that_only_an_action_cache_or_a_scheduler_uses_count_too() {
        let text = "
server: [!channel {address: 'unix:s', insecure-mode: yes}]
connections: [!sql-connection &sql {connection-string: 'sqlite:///x'}]
storages:
  - !lru-storage &blobs {size: 1M}
  - !sql-index &index {storage: *blobs, sql: *sql}
caches:
  - !lru-action-cache &results {storage: !existence-cache {storage: *index, ttl-secs: 20}, max-cached-refs: 10}
";
        let load = |more: &str| load(&format!("{text}{more}"), &Machine).config.unwrap();
        let instances = "
instances: [{name: '', services: [!cas {storage: *index}]}]
";
        let config = load(instances);
        assert_eq!(remembered(&config, &config.storages[1]), Duration::from_secs(20));
        let config = load(&format!(
            "
schedulers:
  - !sql-scheduler &jobs {{storage: !existence-cache {{storage: *index, ttl-secs: 30}}, sql: *sql}}
{instances}"
        ));
        assert_eq!(remembered(&config, &config.storages[1]), Duration::from_secs(30));
    }
}
