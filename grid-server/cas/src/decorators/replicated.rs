//! `!replicated-storage`: each blob in every one of several stores.
//!
//! A write succeeds if it succeeds in one of them, and a blob is missing only if it is missing in all. Copies that are
//! missing are put back when a blob is read (`read-replication`) and, by a queue, when its existence is asked for
//! (`replication-queue-size`).
//!
//! Nobody waits for a store that is away while another one answers; for all of them together one waits as long as for any
//! storage, until the first is back.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{join, join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use grid_core::{Coded, Digest};
use tokio::sync::Semaphore;

use crate::breaker::{Guarded, away};
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
    stores: Arc<[Guarded]>,
    read_replication: bool,
    repairs: Arc<Repairs>,
}

#[derive(Debug)]
struct Repairs {
    /// Whether there is a queue at all.
    queues: bool,
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
        let repairs = Arc::new(Repairs { queues: queue_size > 0, room, writers, observer });
        let stores = stores.into_iter().map(Guarded::new).collect();
        Ok(Self { stores, read_replication, repairs })
    }

    /// Copies a blob from the store that has it to those that have not, in the background.
    fn repair_later(&self, digest: Digest, from: usize, to: Vec<usize>) {
        let Ok(place) = Arc::clone(&self.repairs.room).try_acquire_owned() else {
            if self.repairs.queues {
                self.repairs.observer.event(LABEL, StoreEvent::RepairQueueFull);
            }
            return;
        };
        let (stores, repairs) = (Arc::clone(&self.stores), Arc::clone(&self.repairs));
        tokio::spawn(async move {
            let _place = place;
            let Ok(_turn) = repairs.writers.acquire().await else { return };
            for to in to {
                repairs.copy(&digest, &stores[from], &stores[to]).await;
            }
        });
    }

    /// Waits, where all are away, for the first that answers.
    async fn first<'a, T, F>(&'a self, call: impl Fn(&'a SharedStore) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut calls: FuturesUnordered<F> = self.stores.iter().map(|store| call(store.patient())).collect();
        let message = "none of the storages answers".to_owned();
        let mut trouble = StoreError::Unavailable { backend: LABEL.into(), message, retry_after: None };
        while let Some(answer) = calls.next().await {
            match answer {
                Err(error @ StoreError::Unavailable { .. }) => trouble = error,
                answer => return answer,
            }
        }
        Err(trouble)
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
    async fn copy(&self, digest: &Digest, from: &Guarded, to: &Guarded) {
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
            return match error {
                StoreError::Unavailable { .. } => self.first(|store| store.find_missing(digests)).await,
                error => Err(error),
            };
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
        let (mut lacking, mut trouble, mut all_away) = (Vec::new(), None, true);
        for (place, store) in self.stores.iter().enumerate() {
            match store.read(digest, range).await {
                Ok(content) => {
                    self.repair(digest, place, &lacking).await;
                    return Ok(content);
                }
                Err(error @ StoreError::OutOfRange { .. }) => return Err(error),
                Err(StoreError::NotFound(_) | StoreError::Corrupt { .. }) => lacking.push(place),
                Err(error) => {
                    all_away &= matches!(error, StoreError::Unavailable { .. });
                    trouble = Some(error);
                }
            }
        }
        if all_away && lacking.is_empty() {
            return self.first(|store| store.read(digest, range)).await;
        }
        Err(trouble.unwrap_or(StoreError::NotFound(*digest)))
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        let there = self.stores.iter().filter(|store| !store.is_away()).count();
        if there == 0 {
            // The content comes once: whoever is back first gets it, and reads put the other copies there.
            let back = self.first(|store| async move { store.find_missing(&[*digest]).await.map(|_| store) });
            return back.await?.write(digest, content).await;
        }
        let (feed, streams) = fan_out(content, self.stores.len(), Until::AllDone);
        let writes = self.stores.iter().zip(streams).map(|(store, stream)| {
            // The only one that is left is waited for.
            let is_last = there == 1 && !store.is_away();
            if is_last { store.patient().write(digest, stream) } else { store.write(digest, stream) }
        });
        let ((), answers) = join(feed, join_all(writes)).await;
        best(answers, &self.repairs)
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        let mut answers: Vec<Result<Bytes, StoreError>> =
            digests.iter().map(|digest| Err(StoreError::NotFound(*digest))).collect();
        let mut repairs: Vec<(&Guarded, Vec<usize>)> = Vec::new();
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
            repairs.push((store, lacks));
        }
        if away(&answers).is_some() && repairs.iter().all(|(_, lacks)| lacks.is_empty()) {
            let read = self.first(|store| some(store.read_batch(digests)));
            return read.await.unwrap_or_else(|error| digests.iter().map(|_| Err(error.clone())).collect());
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
        let all = join_all(writes).await;
        if all.iter().all(|answers| away(answers).is_some()) {
            let write = self.first(|store| some(store.write_batch(blobs.clone())));
            return write.await.unwrap_or_else(|error| vec![Err(error); count]);
        }
        let mut all: Vec<_> = all.into_iter().map(Vec::into_iter).collect();
        (0..count).map(|_| best(all.iter_mut().filter_map(Iterator::next).collect(), &self.repairs)).collect()
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        let deletes = self.stores.iter().map(|store| store.delete(digests));
        let mut all: Vec<_> = join_all(deletes).await.into_iter().map(Vec::into_iter).collect();
        digests.iter().map(|_| all.iter_mut().filter_map(Iterator::next).collect()).collect()
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let answers = join_all(self.stores.iter().map(Guarded::probe)).await;
        if answers.iter().any(Result::is_ok) { Ok(()) } else { answers.into_iter().collect() }
    }
}

/// A batch, or its error where nothing of it was available.
async fn some<T>(
    batch: impl Future<Output = Vec<Result<T, StoreError>>>,
) -> Result<Vec<Result<T, StoreError>>, StoreError> {
    let answers = batch.await;
    match away(&answers) {
        Some(error) => Err(error.clone()),
        None => Ok(answers),
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
