//! `completeness`: a result is given only while everything that it names is there.
//!
//! Files, trees and the files in them, stdout, stderr: all in one existence batch, which also counts as a use of each
//! and so keeps them from expiring. What a tree contains is remembered by the tree's digest, for it never changes.

use std::sync::Arc;

use async_trait::async_trait;
use grid_cas::SharedStore;
use grid_core::Digest;
use grid_proto::reapi::ActionResult;
use moka::sync::Cache;

use crate::contents::{self, Contents, Named};
use crate::observer::{CacheEvent, SharedCacheObserver};
use crate::{ActionCache, CacheError, SharedCache};

/// How a [`Completeness`] is made.
#[derive(Clone, Debug)]
pub struct CompletenessOptions {
    /// How many bytes to remember of what trees contain; a file in a tree takes about 80.
    pub tree_cache_bytes: u64,
    /// Who is told of hits, misses and incomplete results.
    pub observer: SharedCacheObserver,
}

/// A cache of results that can be used.
#[derive(Debug)]
pub struct Completeness {
    inner: SharedCache,
    storage: SharedStore,
    trees: Cache<Digest, Arc<[Digest]>>,
    observer: SharedCacheObserver,
}

impl Completeness {
    /// Gives the results of `inner` whose blobs are in `storage`.
    #[must_use]
    pub fn new(inner: SharedCache, storage: SharedStore, options: CompletenessOptions) -> Self {
        let weight = |_: &Digest, files: &Arc<[Digest]>| {
            u32::try_from((files.len() + 2) * size_of::<Digest>()).unwrap_or(u32::MAX)
        };
        let trees = Cache::builder().max_capacity(options.tree_cache_bytes).weigher(weight).build();
        Self { inner, storage, trees, observer: options.observer }
    }

    /// Whether all that the result names is there.
    async fn is_complete(&self, action: &Digest, result: &ActionResult) -> Result<bool, CacheError> {
        let Named { mut blobs, trees, roots } = contents::named(action, result)?;
        for tree in &trees {
            let Some(files) = self.files(tree, Contents::Tree).await? else { return Ok(false) };
            blobs.extend(files.iter());
        }
        for root in &roots {
            let Some(files) = self.files(root, Contents::Directories).await? else { return Ok(false) };
            blobs.extend(files.iter());
        }
        Ok(self.storage.find_missing(&blobs).await?.is_empty())
    }

    /// What a tree contains; `None` where it is not there in full.
    async fn files(&self, tree: &Digest, form: Contents) -> Result<Option<Arc<[Digest]>>, CacheError> {
        if let Some(files) = self.trees.get(tree) {
            return Ok(Some(files));
        }
        let files = contents::files(&self.storage, tree, form).await?;
        let files = files.map(Arc::from);
        if let Some(files) = &files {
            self.trees.insert(*tree, Arc::clone(files));
        }
        Ok(files)
    }
}

#[async_trait]
impl ActionCache for Completeness {
    async fn get(&self, action: &Digest) -> Result<Option<ActionResult>, CacheError> {
        let Some(result) = self.inner.get(action).await? else {
            self.observer.event(CacheEvent::Miss);
            return Ok(None);
        };
        let complete = self.is_complete(action, &result).await?;
        self.observer.event(if complete { CacheEvent::Hit } else { CacheEvent::Incomplete });
        Ok(complete.then_some(result))
    }

    async fn update(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        self.inner.update(action, result).await
    }

    async fn insert(&self, action: &Digest, result: &ActionResult) -> Result<(), CacheError> {
        self.inner.insert(action, result).await
    }

    async fn delete(&self, action: &Digest) -> Result<(), CacheError> {
        self.inner.delete(action).await
    }

    fn allows_updates(&self) -> bool {
        self.inner.allows_updates()
    }

    async fn probe(&self) -> Result<(), CacheError> {
        self.inner.probe().await
    }
}
