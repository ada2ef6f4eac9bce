//! Connections to other servers of the Remote Execution API, and what speaks for the instance that is called.

use std::time::Duration;

use grid_cas::client::{Connection, ConnectionOptions, Patience};
use grid_config::model::{ActionCache, Place, Remote, Storage};
use grid_core::InstanceName;

use super::ComposeError;

/// How often a token is read again where nothing is said.
const TOKEN_REFRESH: Duration = Duration::from_secs(60);

/// The connection to a server.
pub(super) fn connection(
    remote: &Remote,
    instance: &InstanceName,
    place: &Place,
) -> Result<Connection, ComposeError> {
    let credentials = &remote.credentials;
    let options = ConnectionOptions {
        instance_name: remote.instance_name.clone().unwrap_or_else(|| instance.as_str().to_owned()),
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
        name: format!("{place} at {}", remote.url).into(),
        ..ConnectionOptions::new(&remote.url, "")
    };
    Connection::new(options).map_err(|source| ComposeError::Store { place: place.to_string(), source })
}

/// Whether a storage means another thing for each instance.
pub(super) fn storage_varies(storage: &Storage) -> bool {
    match storage {
        Storage::Remote(remote) => remote.remote.instance_name.is_none(),
        Storage::Lru(_) | Storage::Disk(_) | Storage::Redis(_) | Storage::S3(_) | Storage::Sql(_) => false,
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
    }
}

/// Whether an action cache means another thing for each instance.
pub(super) fn cache_varies(cache: &ActionCache) -> bool {
    match cache {
        ActionCache::Lru(lru) => storage_varies(&lru.storage),
        ActionCache::Redis(redis) => storage_varies(&redis.storage),
        ActionCache::S3(s3) => storage_varies(&s3.storage),
        ActionCache::Remote(remote) => remote.remote.instance_name.is_none(),
        ActionCache::WithCache(with) => cache_varies(&with.cache) || cache_varies(&with.fallback),
        ActionCache::Mirrored(mirrored) => cache_varies(&mirrored.first) || cache_varies(&mirrored.second),
        ActionCache::Sharded(sharded) => sharded.shards.iter().any(|shard| cache_varies(&shard.cache)),
        ActionCache::WriteOnce(once) => cache_varies(&once.action_cache),
    }
}
