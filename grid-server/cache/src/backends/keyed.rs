//! [`Keyed`]: results in a service that keeps values by key, in BuildGrid's two forms: the result itself, or the digest
//! of the result, which is then a blob of the storage. Which service it is a [`Values`] says, one a file beside this.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use grid_cas::{SharedStore, StoreError};
use grid_core::Digest;
use grid_proto::reapi::{self, ActionResult};
use prost::Message;

use crate::{ActionCache, CacheError};

/// Values by action.
#[async_trait]
pub trait Values: Debug + Send + Sync {
    /// The value of `action`, or `None`.
    ///
    /// # Errors
    /// The service's trouble, here and everywhere.
    async fn get(&self, action: &Digest) -> Result<Option<Bytes>, StoreError>;

    /// Sets the value of `action`.
    async fn put(&self, action: &Digest, value: Bytes) -> Result<(), StoreError>;

    /// Sets the value of `action` where there is none; of several callers at once one is told that it did.
    async fn put_new(&self, action: &Digest, value: Bytes) -> Result<bool, StoreError>;

    /// Removes the value of `action`, if there is one.
    async fn delete(&self, action: &Digest) -> Result<(), StoreError>;

    /// Whether the service answers.
    async fn probe(&self) -> Result<(), StoreError>;
}

/// What an entry holds (`entry-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryType {
    /// The digest of the result, which is in the storage.
    Digest,
    /// The result.
    Result,
}

/// How entries are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryOptions {
    /// What new entries hold; both types are read.
    pub entry_type: EntryType,
    /// Whether an entry of the other type is rewritten when it is read (`migrate-entries`).
    pub migrate: bool,
}

/// Results by key.
#[derive(Debug)]
pub struct Keyed<V> {
    values: V,
    storage: SharedStore,
    options: EntryOptions,
}

impl<V: Values> Keyed<V> {
    /// Results in `values`, and in `storage` where those are digests.
    #[must_use]
    pub fn new(values: V, storage: SharedStore, options: EntryOptions) -> Self {
        Self { values, storage, options }
    }

    /// The value of an entry; a result that it names by digest is stored first.
    async fn value(&self, action: &Digest, result: &ActionResult) -> Result<Bytes, CacheError> {
        let bytes = Bytes::from(result.encode_to_vec());
        if self.options.entry_type == EntryType::Result {
            return Ok(bytes);
        }
        let digest = Digest::of(action.function(), &bytes);
        self.storage.write_batch(vec![(digest, bytes)]).await.into_iter().collect::<Result<(), _>>()?;
        let wire = reapi::Digest { hash: digest.hash_hex(), size_bytes: digest.size_signed() };
        Ok(wire.encode_to_vec().into())
    }

    async fn result(&self, action: &Digest, value: Bytes) -> Result<Option<ActionResult>, CacheError> {
        let (bytes, found) = match named(action, &value) {
            Some(digest) => match self.storage.read_batch(&[digest]).await.pop() {
                Some(Ok(bytes)) => (bytes, EntryType::Digest),
                None | Some(Err(StoreError::NotFound(_) | StoreError::Corrupt { .. })) => return Ok(None),
                Some(Err(error)) => return Err(error.into()),
            },
            None => (value, EntryType::Result),
        };
        let result = ActionResult::decode(bytes).map_err(|_| CacheError::Corrupt(*action))?;
        if self.options.migrate && found != self.options.entry_type {
            self.rewrite(action, &result).await;
        }
        Ok(Some(result))
    }

    /// That an entry keeps its form for now is no trouble of whoever reads it.
    async fn rewrite(&self, action: &Digest, result: &ActionResult) {
        if let Err(error) = self.update(action, result).await {
            tracing::warn!(%action, %error, "an entry of an action cache could not be rewritten");
        }
    }
}

/// The digest that a value is, if it is one: of the action's own length, as BuildGrid tells the two forms apart.
fn named(action: &Digest, value: &Bytes) -> Option<Digest> {
    let wire = reapi::Digest::decode(value.clone()).ok()?;
    Digest::parse(action.function(), &wire.hash, wire.size_bytes).ok()
}

#[async_trait]
impl<V: Values> ActionCache for Keyed<V> {
    async fn get(&self, action: &Digest) -> Result<Option<ActionResult>, CacheError> {
        match self.values.get(action).await? {
            Some(value) => self.result(action, value).await,
            None => Ok(None),
        }
    }

    async fn update(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        let value = self.value(action, result).await?;
        Ok(self.values.put(action, value).await?)
    }

    async fn insert(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        let value = self.value(action, result).await?;
        match self.values.put_new(action, value).await? {
            true => Ok(()),
            false => Err(CacheError::AlreadyWritten(*action)),
        }
    }

    async fn delete(&self, action: &Digest) -> Result<(), CacheError> {
        Ok(self.values.delete(action).await?)
    }

    fn allows_updates(&self) -> bool {
        true
    }

    async fn probe(&self) -> Result<(), CacheError> {
        Ok(self.values.probe().await?)
    }
}
