//! For how long caches of existence in front of an index vouch for its blobs without asking it.
//!
//! Whoever cleans an index deletes behind the back of such a cache. So it waits for that much longer than was promised: no
//! client is told of a blob less than the promised lifetime before it may go.

use std::sync::Arc;
use std::time::Duration;

use grid_config::ServerConfig;
use grid_config::model::{Service, Shared, Storage};

use super::indexes::parts;

/// The longest time after the index was asked for a blob for which something of this configuration says that it is there.
pub(super) fn remembered(config: &ServerConfig, index: &Shared<Storage>) -> Duration {
    let services = config.instances.iter().flat_map(|instance| &instance.services);
    let served = services.filter_map(|service| match &service.value {
        Service::Cas(cas) => Some(&cas.storage),
        Service::ByteStream(stream) => stream.storage.as_ref(),
        Service::RemoteAsset(assets) => Some(&assets.storage),
        _ => None,
    });
    config.storages.iter().chain(served).filter_map(|item| above(item, index)).max().unwrap_or_default()
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
}
