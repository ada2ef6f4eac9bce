//! What this version can't serve yet of what a configuration may say: `check` says it, so that nothing is ignored.

use grid_config::ServerConfig;
use grid_config::model::{ActionCache, Method, Place, Scheduler, Service, Shared, Storage};

/// The places that keep a configuration from being served, of those that something is served from.
pub(crate) fn unserved(config: &ServerConfig) -> Vec<Place> {
    let mut found = Vec::new();
    for service in config.instances.iter().flat_map(|instance| &instance.services) {
        match &service.value {
            Service::Cas(cas) => storage(&cas.storage, &mut found),
            Service::ByteStream(stream) => storage(&stream.storage, &mut found),
            Service::ActionCache(service) => cache(&service.cache, &mut found),
            Service::Execution(execution) => {
                scheduler(&execution.scheduler, &mut found);
                execution.overrides.storage.iter().for_each(|item| storage(item, &mut found));
                execution.overrides.action_cache.iter().for_each(|item| cache(item, &mut found));
            }
            Service::Bots(bots) => scheduler(&bots.scheduler, &mut found),
            Service::Operations(operations) => scheduler(&operations.scheduler, &mut found),
            Service::LogStream(_) | Service::BuildEvents(_) => {}
            Service::RemoteAsset(assets) => storage(&assets.storage, &mut found),
            Service::Fleet(fleet) => scheduler(&fleet.scheduler, &mut found),
        }
    }
    config.cleanup.iter().for_each(|cleanup| storage(&cleanup.index, &mut found));
    found.sort_by_key(|place| place.mark);
    found.dedup();
    found
}

/// Whether callers are known in a way that this version doesn't have yet.
pub(crate) const fn unserved_method(config: &ServerConfig) -> bool {
    matches!(config.authorization.method, Method::Server(_))
}

fn storage(item: &Shared<Storage>, found: &mut Vec<Place>) {
    match &item.value {
        Storage::Lru(_) | Storage::Disk(_) | Storage::Remote(_) | Storage::S3(_) | Storage::Redis(_) => {}
        Storage::WithCache(with) => {
            storage(&with.cache, found);
            storage(&with.fallback, found);
        }
        Storage::SizeDifferentiated(sized) => {
            storage(&sized.fallback, found);
            sized.limited.iter().for_each(|entry| storage(&entry.storage, found));
        }
        Storage::Sharded(sharded) => sharded.shards.iter().for_each(|shard| storage(&shard.storage, found)),
        Storage::Replicated(replicated) => replicated.storages.iter().for_each(|item| storage(item, found)),
        Storage::SqlIndex(index) => storage(&index.storage, found),
        Storage::RedisIndex(index) => storage(&index.storage, found),
        Storage::RedisFmbCache(cache) => storage(&cache.storage, found),
        Storage::Sql(_) => found.push(item.place.clone()),
    }
}

fn cache(item: &Shared<ActionCache>, found: &mut Vec<Place>) {
    match &item.value {
        ActionCache::Lru(lru) => storage(&lru.storage, found),
        ActionCache::Sql(sql) => storage(&sql.storage, found),
        ActionCache::WithCache(with) => {
            cache(&with.cache, found);
            cache(&with.fallback, found);
        }
        ActionCache::Mirrored(mirrored) => {
            cache(&mirrored.first, found);
            cache(&mirrored.second, found);
        }
        ActionCache::Redis(redis) => storage(&redis.storage, found),
        ActionCache::S3(s3) => storage(&s3.storage, found),
        ActionCache::Sharded(sharded) => {
            sharded.shards.iter().for_each(|shard| cache(&shard.cache, found));
        }
        ActionCache::WriteOnce(once) => cache(&once.action_cache, found),
        ActionCache::Remote(_) => {}
    }
}

fn scheduler(item: &Shared<Scheduler>, found: &mut Vec<Place>) {
    storage(&item.storage, found);
    item.action_cache.iter().for_each(|item| cache(item, found));
    if item.logstream.is_some() {
        found.push(item.place.clone());
    }
}
