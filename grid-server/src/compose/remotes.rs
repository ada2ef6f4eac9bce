//! Connections to other servers of the Remote Execution API, and what speaks for the instance that is called.

use std::sync::Arc;
use std::time::Duration;

use grid_cas::client::{Connection, ConnectionOptions, Patience, Tuning};
use grid_config::model::{
    ActionCache, ClientOptions, LoadBalancing, Place, Remote, Scheduler, Shared, Storage,
};
use grid_core::InstanceName;
use grid_rpc::bots::RemoteLogs;

use super::databases::address;
use super::{ComposeError, Composer};

/// How often a token is read again where nothing is said.
pub(super) const TOKEN_REFRESH: Duration = Duration::from_secs(60);

impl Composer<'_> {
    /// The connection to a server for an instance; everything that says the same of a server shares one.
    pub(super) fn connection(
        &mut self,
        remote: &Remote,
        instance: &InstanceName,
        place: &Place,
    ) -> Result<Connection, ComposeError> {
        let named = remote.instance_name.as_deref().unwrap_or(instance.as_str());
        let same = |(known, name, _): &&(Remote, String, Connection)| known == remote && name == named;
        if let Some((_, _, connection)) = self.connections.iter().find(same) {
            return Ok(connection.clone());
        }
        let made = connect(remote, named, place)?;
        self.connections.push((remote.clone(), named.to_owned(), made.clone()));
        Ok(made)
    }

    /// The other server that the log streams of a scheduler's leases are made at, where that is said.
    pub(super) fn logs_elsewhere(
        &mut self,
        scheduler: &Shared<Scheduler>,
    ) -> Result<Option<Arc<RemoteLogs>>, ComposeError> {
        let Some(remote) = &scheduler.logstream else { return Ok(None) };
        // The streams' parents name the instance: one connection is for all.
        let connection = self.connection(remote, &InstanceName::default(), &scheduler.place)?;
        Ok(Some(Arc::new(RemoteLogs::new(connection))))
    }
}

/// The server that a storage's blobs, or some of them, are in at last, with the place where that is said.
pub(super) fn behind_storage(item: &Shared<Storage>) -> Option<(&Remote, &Place)> {
    match &item.value {
        Storage::Remote(storage) => Some((&storage.remote, &item.place)),
        Storage::Lru(_)
        | Storage::Disk(_)
        | Storage::Redis(_)
        | Storage::S3(_)
        | Storage::Sql(_)
        | Storage::Zstd(_) => None,
        Storage::WithCache(with) => behind_storage(&with.fallback),
        Storage::SizeDifferentiated(sized) => {
            let parts = sized.limited.iter().map(|entry| &entry.storage).chain([&sized.fallback]);
            parts.into_iter().find_map(behind_storage)
        }
        Storage::Sharded(sharded) => sharded.shards.iter().find_map(|shard| behind_storage(&shard.storage)),
        Storage::Replicated(replicated) => replicated.storages.iter().find_map(behind_storage),
        Storage::SqlIndex(index) => behind_storage(&index.storage),
        Storage::RedisIndex(index) => behind_storage(&index.storage),
        Storage::RedisFmbCache(cache) => behind_storage(&cache.storage),
        Storage::ExistenceCache(cache) => behind_storage(&cache.storage),
    }
}

/// The server that a cache's results are in at last, with the place where that is said.
pub(super) fn behind_cache(item: &Shared<ActionCache>) -> Option<(&Remote, &Place)> {
    match &item.value {
        ActionCache::Remote(cache) => Some((&cache.remote, &item.place)),
        ActionCache::Lru(_) | ActionCache::Redis(_) | ActionCache::S3(_) | ActionCache::Sql(_) => None,
        ActionCache::WithCache(with) => behind_cache(&with.fallback),
        ActionCache::Mirrored(mirrored) => behind_cache(&mirrored.first),
        ActionCache::Sharded(sharded) => sharded.shards.iter().find_map(|shard| behind_cache(&shard.cache)),
        ActionCache::WriteOnce(once) => behind_cache(&once.action_cache),
    }
}

fn tuning(options: &ClientOptions) -> Tuning {
    let ClientOptions {
        keepalive_time,
        keepalive_timeout,
        keepalive_without_calls,
        max_receive_message,
        max_send_message,
        stream_window,
        adaptive_window,
        load_balancing,
        authority,
        tls_name,
        user_agent,
    } = options.clone();
    Tuning {
        keepalive_time,
        keepalive_timeout,
        keepalive_without_calls,
        max_receive_message,
        max_send_message,
        stream_window,
        adaptive_window,
        one_address: load_balancing == LoadBalancing::PickFirst,
        authority,
        tls_name,
        user_agent,
    }
}

fn connect(remote: &Remote, instance: &str, place: &Place) -> Result<Connection, ComposeError> {
    let credentials = &remote.credentials;
    let options = ConnectionOptions {
        instance_name: instance.to_owned(),
        tls_ca: credentials.authorities.clone(),
        tls_identity: credentials.certificate.clone().zip(credentials.key.clone()),
        token_file: credentials.token.clone(),
        token_refresh: credentials.token_refresh.unwrap_or(TOKEN_REFRESH),
        patience: Patience {
            retries: remote.retries,
            max_backoff: remote.max_backoff,
            request_timeout: remote.request_timeout,
            ..Patience::default()
        },
        tuning: tuning(&remote.options),
        name: format!("{place} at {}", address(&remote.url)).into(),
        ..ConnectionOptions::new(&remote.url, "")
    };
    Connection::new(options).map_err(|source| ComposeError::Store { place: place.to_string(), source })
}

/// Whether a storage means another thing for each instance.
pub(super) fn storage_varies(storage: &Storage) -> bool {
    match storage {
        Storage::Remote(remote) => remote.remote.instance_name.is_none(),
        Storage::Lru(_)
        | Storage::Disk(_)
        | Storage::Redis(_)
        | Storage::S3(_)
        | Storage::Sql(_)
        | Storage::Zstd(_) => false,
        Storage::WithCache(with) => storage_varies(&with.cache) || storage_varies(&with.fallback),
        Storage::SizeDifferentiated(sized) => {
            storage_varies(&sized.fallback)
                || sized.limited.iter().any(|entry| storage_varies(&entry.storage))
        }
        Storage::Sharded(sharded) => sharded.shards.iter().any(|shard| storage_varies(&shard.storage)),
        Storage::Replicated(replicated) => replicated.storages.iter().any(|storage| storage_varies(storage)),
        Storage::SqlIndex(index) => storage_varies(&index.storage),
        Storage::RedisIndex(index) => storage_varies(&index.storage),
        Storage::RedisFmbCache(cache) => storage_varies(&cache.storage),
        Storage::ExistenceCache(cache) => storage_varies(&cache.storage),
    }
}

/// Whether an action cache means another thing for each instance.
pub(super) fn cache_varies(cache: &ActionCache) -> bool {
    match cache {
        ActionCache::Lru(lru) => storage_varies(&lru.storage),
        ActionCache::Redis(redis) => storage_varies(&redis.storage),
        ActionCache::S3(s3) => storage_varies(&s3.storage),
        ActionCache::Sql(sql) => storage_varies(&sql.storage),
        ActionCache::Remote(remote) => remote.remote.instance_name.is_none(),
        ActionCache::WithCache(with) => cache_varies(&with.cache) || cache_varies(&with.fallback),
        ActionCache::Mirrored(mirrored) => cache_varies(&mirrored.first) || cache_varies(&mirrored.second),
        ActionCache::Sharded(sharded) => sharded.shards.iter().any(|shard| cache_varies(&shard.cache)),
        ActionCache::WriteOnce(once) => cache_varies(&once.action_cache),
    }
}

#[cfg(test)]
mod tests {
    use grid_config::{Machine, load};

    use super::*;

    #[test]
    fn a_storage_of_which_a_part_is_in_another_server_is_behind_it() {
        let text = "
server: [!channel {address: 'unix:s', insecure-mode: yes}]
storages:
  - !remote-storage &there {url: 'http://host:1', instance-name: ''}
  - !lru-storage &here {size: 1M}
  - !size-differentiated-storage
    size-limited-storages: [{max-size: 1000, storage: *there}]
    fallback: *here
  - !size-differentiated-storage
    size-limited-storages: [{max-size: 1000, storage: *here}]
    fallback: *there
instances: [{name: '', services: [!cas {storage: *here}]}]
";
        let config = load(text, &Machine).config.unwrap();
        let behind: Vec<bool> = config.storages.iter().map(|item| behind_storage(item).is_some()).collect();
        assert_eq!(behind, [true, false, true, true]);
    }
}
