//! `!replicated-storage`: each blob in every one of several stores.
//!
//! A write succeeds if it succeeds in one of them, and a blob is missing only if it is missing in all. Copies that are
//! missing are put back when a blob is read (`read-replication`) and, by a queue, when its existence is asked for
//! (`replication-queue-size`).

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{join, join_all};
use grid_core::{Coded, Digest};
use tokio::sync::Semaphore;

use crate::content::{self, DigestSet};
use crate::fan_out::{Until, fan_out};
use crate::observer::{SharedObserver, StoreEvent};
use crate::{BlobStore, ByteRange, ByteStream, SharedStore, StoreError};

const LABEL: &str = "replicated";

/// How a [`Replicated`] is made.
#[derive(Clone, Debug)]
pub struct ReplicatedOptions {
    /// How many repairs found by asking for existence may wait; zero makes none (`replication-queue-size`).
    pub queue_size: usize,
    /// How many of them are made at a time (`replication-threads`).
    pub writers: usize,
    /// Whether a read puts back the copies that it finds missing (`read-replication`).
    pub read_replication: bool,
    /// Who is told of repairs.
    pub observer: SharedObserver,
}

/// Stores that each hold everything.
#[derive(Debug)]
pub struct Replicated {
    stores: Arc<[SharedStore]>,
    read_replication: bool,
    repairs: Arc<Repairs>,
}

#[derive(Debug)]
struct Repairs {
    room: Arc<Semaphore>,
    writers: Semaphore,
    observer: SharedObserver,
}

impl Replicated {
    /// A store over `stores`, the first of which is read first.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for fewer than two.
    pub fn new(stores: Vec<SharedStore>, options: ReplicatedOptions) -> Result<Self, StoreError> {
        if stores.len() < 2 {
            let message = format!("it needs at least 2 storages, and has {}", stores.len());
            return Err(StoreError::Refused { backend: "!replicated-storage".into(), message });
        }
        let ReplicatedOptions { queue_size, writers, read_replication, observer } = options;
        let (room, writers) = (Arc::new(Semaphore::new(queue_size)), Semaphore::new(writers.max(1)));
        let repairs = Arc::new(Repairs { room, writers, observer });
        Ok(Self { stores: stores.into(), read_replication, repairs })
    }

    /// Copies a blob from the store that has it to those that have not, in the background.
    fn repair_later(&self, digest: Digest, from: usize, to: Vec<usize>) {
        let Ok(place) = Arc::clone(&self.repairs.room).try_acquire_owned() else { return };
        let (stores, repairs) = (Arc::clone(&self.stores), Arc::clone(&self.repairs));
        tokio::spawn(async move {
            let _place = place;
            let Ok(_turn) = repairs.writers.acquire().await else { return };
            for to in to {
                repairs.copy(&digest, &stores[from], &stores[to]).await;
            }
        });
    }

    /// Copies a blob to the stores of `to` that have not got it, now: the reader waits, and finds it everywhere.
    async fn repair(&self, digest: &Digest, from: usize, to: &[usize]) {
        if self.read_replication {
            join_all(to.iter().map(|to| self.repairs.copy(digest, &self.stores[from], &self.stores[*to])))
                .await;
        }
    }
}

impl Repairs {
    async fn copy(&self, digest: &Digest, from: &SharedStore, to: &SharedStore) {
        let copied = match from.read(digest, ByteRange::default()).await {
            Ok(content) => to.write(digest, content).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &copied {
            tracing::warn!(%digest, %error, "a missing copy could not be put back");
        }
        self.report(u64::from(copied.is_ok()), u64::from(copied.is_err()));
    }

    fn report(&self, repaired: u64, failed: u64) {
        if repaired + failed > 0 {
            self.observer.event(LABEL, StoreEvent::Repair { repaired, failed });
        }
    }
}

#[async_trait]
impl BlobStore for Replicated {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let answers = join_all(self.stores.iter().map(|store| store.find_missing(digests))).await;
        let mut trouble = None;
        let missing: Vec<Option<DigestSet>> = answers
            .into_iter()
            .map(|answer| answer.map_err(|error| trouble = Some(error)).ok().map(|m| m.into_iter().collect()))
            .collect();
        let absent_in =
            |set: &Option<DigestSet>, digest: &Digest| set.as_ref().is_none_or(|set| set.contains(digest));
        let nowhere =
            content::missing_of(digests, |digest| !missing.iter().all(|set| absent_in(set, digest)));
        // Those that answer decide, so that a store may be away: at worst a blob that it alone has is stored again.
        if let (Some(error), true) = (trouble, missing.iter().all(Option::is_none)) {
            return Err(error);
        }
        for digest in missing.iter().flatten().flatten() {
            let has = |place: &usize| missing[*place].as_ref().is_some_and(|set| !set.contains(digest));
            let lacks = |place: &usize| missing[*place].as_ref().is_some_and(|set| set.contains(digest));
            if let Some(from) = (0..self.stores.len()).find(has) {
                self.repair_later(*digest, from, (0..self.stores.len()).filter(lacks).collect());
            }
        }
        Ok(nowhere)
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        let (mut lacking, mut trouble) = (Vec::new(), None);
        for (place, store) in self.stores.iter().enumerate() {
            match store.read(digest, range).await {
                Ok(content) => {
                    self.repair(digest, place, &lacking).await;
                    return Ok(content);
                }
                Err(error @ StoreError::OutOfRange { .. }) => return Err(error),
                Err(StoreError::NotFound(_) | StoreError::Corrupt { .. }) => lacking.push(place),
                Err(error) => trouble = Some(error),
            }
        }
        Err(trouble.unwrap_or(StoreError::NotFound(*digest)))
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        let (feed, streams) = fan_out(content, self.stores.len(), Until::AllDone);
        let writes = self.stores.iter().zip(streams).map(|(store, stream)| store.write(digest, stream));
        let ((), answers) = join(feed, join_all(writes)).await;
        best(answers, &self.repairs)
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        let mut answers: Vec<Result<Bytes, StoreError>> =
            digests.iter().map(|digest| Err(StoreError::NotFound(*digest))).collect();
        let mut repairs: Vec<(SharedStore, Vec<usize>)> = Vec::new();
        for store in self.stores.iter() {
            let open: Vec<usize> = (0..answers.len()).filter(|place| answers[*place].is_err()).collect();
            if open.is_empty() {
                break;
            }
            let asked: Vec<Digest> = open.iter().map(|place| digests[*place]).collect();
            let mut lacks = Vec::new();
            for (place, answer) in open.into_iter().zip(store.read_batch(&asked).await) {
                match answer {
                    Err(StoreError::NotFound(_) | StoreError::Corrupt { .. }) => lacks.push(place),
                    answer => answers[place] = answer,
                }
            }
            repairs.push((Arc::clone(store), lacks));
        }
        for (store, lacks) in repairs.into_iter().filter(|_| self.read_replication) {
            let copies = lacks
                .iter()
                .filter_map(|place| Some((digests[*place], answers[*place].as_ref().ok()?.clone())));
            let copied = store.write_batch(copies.collect()).await;
            let repaired = copied.iter().filter(|answer| answer.is_ok()).count();
            self.repairs.report(repaired as u64, (copied.len() - repaired) as u64);
        }
        answers
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let count = blobs.len();
        let writes = self.stores.iter().map(|store| store.write_batch(blobs.clone()));
        let mut all: Vec<_> = join_all(writes).await.into_iter().map(Vec::into_iter).collect();
        (0..count).map(|_| best(all.iter_mut().filter_map(Iterator::next).collect(), &self.repairs)).collect()
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        let deletes = self.stores.iter().map(|store| store.delete(digests));
        let mut all: Vec<_> = join_all(deletes).await.into_iter().map(Vec::into_iter).collect();
        digests.iter().map(|_| all.iter_mut().filter_map(Iterator::next).collect()).collect()
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let answers = join_all(self.stores.iter().map(|store| store.probe())).await;
        if answers.iter().any(Result::is_ok) { Ok(()) } else { answers.into_iter().collect() }
    }
}

/// Success if one of the answers is; else the error that says most about the content.
fn best(answers: Vec<Result<(), StoreError>>, repairs: &Repairs) -> Result<(), StoreError> {
    let failed = answers.iter().filter(|answer| answer.is_err()).count();
    if failed < answers.len() {
        repairs.report(0, failed as u64);
        return Ok(());
    }
    let errors = answers.into_iter().filter_map(Result::err);
    errors.min_by_key(|error| error.code().is_transient()).map_or(Ok(()), Err)
}
