//! Redis servers.

use std::sync::Arc;

use grid_cas::redis_client::{RedisConnection, RedisConnectionOptions};
use grid_config::model::{self, Secret, Shared};

use super::{Composer, key};

impl Composer<'_> {
    /// The connection to a server: one for each that the configuration names, whatever uses it.
    pub(super) fn redis(&mut self, item: &Shared<model::RedisConnection>) -> Arc<RedisConnection> {
        let made = || Arc::new(RedisConnection::new(options(item)));
        Arc::clone(self.redis.entry(key(item, None)).or_insert_with(made))
    }
}

fn options(item: &Shared<model::RedisConnection>) -> RedisConnectionOptions {
    let redis = &item.value;
    RedisConnectionOptions {
        host: redis.host.clone(),
        port: redis.port,
        password: redis.password.as_ref().map(Secret::reveal).map(str::to_owned),
        db: redis.db,
        sentinel_master: redis.sentinel_master.clone(),
        retries: redis.retries,
        resp3: redis.protocol == Some(3),
        name: format!("{} at {}:{}", item.place, redis.host, redis.port).into(),
    }
}
