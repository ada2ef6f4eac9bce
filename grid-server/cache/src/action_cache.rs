//! The [`ActionCache`] trait.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use grid_core::Digest;
use grid_proto::reapi::ActionResult;

use crate::CacheError;

/// A cache that is shared, as an aliased node of the configuration is.
pub type SharedCache = Arc<dyn ActionCache>;

/// A mapping from action digests to results.
///
/// An entry is keyed by digest alone, its function included; whether instances share entries is a matter of which
/// cache object, and which salt, the configuration gives them.
#[async_trait]
pub trait ActionCache: Debug + Send + Sync {
    /// The result of `action`, or `None`.
    ///
    /// # Errors
    /// Where absence can't be told from trouble.
    async fn get(&self, action: &Digest) -> Result<Option<ActionResult>, CacheError>;

    /// Records the result of `action`.
    ///
    /// # Errors
    /// [`CacheError::UpdatesNotAllowed`], [`CacheError::AlreadyWritten`], a backend's trouble.
    async fn update(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError>;

    /// As [`ActionCache::update`] where `action` has no result yet. Of several callers at once, in whatever processes,
    /// one succeeds: the backend decides, not a look beforehand.
    ///
    /// # Errors
    /// [`CacheError::AlreadyWritten`]; those of [`ActionCache::update`].
    async fn insert(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError>;

    /// Forgets the result of `action`; one that is absent counts as forgotten.
    ///
    /// # Errors
    /// A backend's trouble.
    async fn delete(&self, action: &Digest) -> Result<(), CacheError>;

    /// Whether [`ActionCache::update`] can succeed at all; advertised in the capabilities.
    fn allows_updates(&self) -> bool;

    /// Whether the backend answers at all; for health, never on the path of a call.
    ///
    /// # Errors
    /// What a call would have met.
    async fn probe(&self) -> Result<(), CacheError>;
}
