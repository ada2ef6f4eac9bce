//! [`Router`]: each blob in one of several stores, told by its digest. What `size_differentiated` and `sharded` have
//! in common: calls that name several blobs are split, made at once, and their answers put back in order.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use grid_core::Digest;

use crate::content::{self, DigestSet};
use crate::{BlobStore, ByteRange, ByteStream, SharedStore, StoreError};

/// Which of the stores a blob belongs to.
pub trait Route: Debug + Send + Sync {
    /// The store's place in the list that the router was made with.
    fn place(&self, digest: &Digest) -> usize;
}

/// Stores that each hold a part of the blobs.
#[derive(Debug)]
pub struct Router<R> {
    stores: Vec<SharedStore>,
    route: R,
}

impl<R: Route> Router<R> {
    /// `route` only gives places of `stores`, of which there is at least one.
    pub(super) fn over(stores: Vec<SharedStore>, route: R) -> Self {
        Self { stores, route }
    }

    fn store(&self, digest: &Digest) -> &SharedStore {
        &self.stores[self.route.place(digest)]
    }

    /// `items` by store, each with its place in the whole.
    fn split<T>(&self, items: impl IntoIterator<Item = T>, digest: impl Fn(&T) -> Digest) -> Vec<Part<T>> {
        let mut parts: Vec<Part<T>> = self.stores.iter().map(|_| Part::default()).collect();
        for (place, item) in items.into_iter().enumerate() {
            let part = &mut parts[self.route.place(&digest(&item))];
            part.places.push(place);
            part.items.push(item);
        }
        parts
    }

    /// The parts that are not empty, each with its store.
    fn with_stores<T>(&self, parts: Vec<Part<T>>) -> impl Iterator<Item = (&SharedStore, Part<T>)> {
        self.stores.iter().zip(parts).filter(|(_, part)| !part.items.is_empty())
    }
}

#[derive(Debug)]
struct Part<T> {
    places: Vec<usize>,
    items: Vec<T>,
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self { places: Vec::new(), items: Vec::new() }
    }
}

type Answers<T> = Vec<Result<T, StoreError>>;

/// The answers of all parts, each at its place in the whole.
fn gather<T>(count: usize, parts: Vec<(Vec<usize>, Answers<T>)>) -> Answers<T> {
    let lost =
        || StoreError::Internal { backend: "router".into(), message: "a store gave too few answers".into() };
    let mut all: Vec<Option<Result<T, StoreError>>> = std::iter::repeat_with(|| None).take(count).collect();
    for (places, answers) in parts {
        for (place, answer) in places.into_iter().zip(answers) {
            all[place] = Some(answer);
        }
    }
    all.into_iter().map(|answer| answer.unwrap_or_else(|| Err(lost()))).collect()
}

#[async_trait]
impl<R: Route> BlobStore for Router<R> {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let parts = self.with_stores(self.split(digests.iter().copied(), |d| *d));
        let asked = parts.map(|(store, part)| async move { store.find_missing(&part.items).await });
        let missing: DigestSet = try_join_all(asked).await?.into_iter().flatten().collect();
        Ok(content::missing_of(digests, |digest| !missing.contains(digest)))
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        self.store(digest).read(digest, range).await
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        self.store(digest).write(digest, content).await
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        let parts = self.with_stores(self.split(digests.iter().copied(), |d| *d));
        let asked =
            parts.map(|(store, part)| async move { (part.places, store.read_batch(&part.items).await) });
        gather(digests.len(), join_all(asked).await)
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let count = blobs.len();
        let parts = self.with_stores(self.split(blobs, |(digest, _)| *digest));
        let asked =
            parts.map(|(store, part)| async move { (part.places, store.write_batch(part.items).await) });
        gather(count, join_all(asked).await)
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        let parts = self.with_stores(self.split(digests.iter().copied(), |d| *d));
        let asked = parts.map(|(store, part)| async move { (part.places, store.delete(&part.items).await) });
        gather(digests.len(), join_all(asked).await)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        try_join_all(self.stores.iter().map(|store| store.probe())).await.map(drop)
    }
}
