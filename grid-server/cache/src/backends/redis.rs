//! `!redis-action-cache`: results in Redis, under BuildGrid's keys: `action-cache.{salt.}{hash}_{size}`.
//!
//! Entries don't expire. All who share a server and a database share entries, unless their salts differ.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use grid_cas::StoreError;
use grid_cas::redis_client::{RedisConnection, keys};
use grid_core::Digest;

use super::keyed::Values;

/// Values in Redis.
#[derive(Debug)]
pub struct RedisValues {
    connection: Arc<RedisConnection>,
    prefix: String,
}

impl RedisValues {
    /// The values behind `connection` of those who have this salt (`cache-key-salt`).
    #[must_use]
    pub fn new(connection: Arc<RedisConnection>, salt: Option<&str>) -> Self {
        let salt = salt.filter(|salt| !salt.is_empty()).map(|salt| format!("{salt}.")).unwrap_or_default();
        Self { connection, prefix: format!("action-cache.{salt}") }
    }

    fn key(&self, action: &Digest) -> String {
        format!("{}{}", self.prefix, keys::of_blob(action))
    }
}

#[async_trait]
impl Values for RedisValues {
    async fn get(&self, action: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.connection.command(&redis::Cmd::get(self.key(action))).await
    }

    async fn put(&self, action: &Digest, value: Bytes) -> Result<(), StoreError> {
        self.connection.command(&redis::Cmd::set(self.key(action), value.as_ref())).await
    }

    async fn put_new(&self, action: &Digest, value: Bytes) -> Result<bool, StoreError> {
        let set = redis::Cmd::set_nx(self.key(action), value.as_ref());
        match self.connection.counted(&set).await? {
            // The answer to an earlier one may have been lost: then it is ours that is there.
            (false, 2..) => Ok(self.get(action).await? == Some(value)),
            (new, _) => Ok(new),
        }
    }

    async fn delete(&self, action: &Digest) -> Result<(), StoreError> {
        self.connection.command(&redis::Cmd::del(self.key(action))).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.connection.probe().await
    }
}
