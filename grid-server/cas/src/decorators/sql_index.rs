//! `!sql-index`: existence from a [`BlobIndex`], small blobs too; all others from the storage behind it.
//!
//! Which index it is the constructor's argument says: the decorator is the same over each. A blob is stored before it
//! is noted, and claimed before it is deleted: so what the index names is there. Where somebody else deleted it, a read
//! notices and forgets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use grid_core::{Clock, Digest, Timestamp};
use moka::sync::Cache;
use parking_lot::Mutex;

use crate::content::{self, DigestMap, DigestSet, is_empty_blob};
use crate::index::{BlobIndex, NewBlob};
use crate::observer::{SharedObserver, StoreEvent};
use crate::wait::until_available;
use crate::{BlobStore, ByteRange, ByteStream, SharedStore, StoreError};

const LABEL: &str = "sql_index";
/// How long a claim for a deletion by hand lasts.
const CLAIM: Duration = Duration::from_secs(60);
/// How soon a writer looks again whether a blob's deletion is over.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long reads are gathered before their uses are noted in one statement.
const NOTE_AFTER: Duration = Duration::from_secs(1);
/// How many digests to remember as noted lately.
const REMEMBERED: u64 = 100_000;

/// How an [`SqlIndex`] is made.
#[derive(Clone, Debug)]
pub struct SqlIndexOptions {
    /// Blobs up to this many bytes are kept in the index itself (`max-inline-blob-size`); zero for none.
    pub max_inline_blob_size: u64,
    /// How many digests one statement names (`inclause-limit`).
    pub window: usize,
    /// Who is told of dangling entries.
    pub observer: SharedObserver,
}

/// A storage with an index.
#[derive(Debug)]
pub struct SqlIndex {
    storage: SharedStore,
    index: Arc<dyn BlobIndex>,
    clock: Arc<dyn Clock>,
    options: SqlIndexOptions,
    uses: Arc<Uses>,
}

impl SqlIndex {
    /// Puts `index` in front of `storage`.
    #[must_use]
    pub fn new(
        storage: SharedStore,
        index: Arc<dyn BlobIndex>,
        clock: Arc<dyn Clock>,
        options: SqlIndexOptions,
    ) -> Self {
        let options = SqlIndexOptions { window: options.window.max(1), ..options };
        let uses = Arc::new(Uses::new(Arc::clone(&index), Arc::clone(&clock), options.window));
        Self { storage, index, clock, options, uses }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn is_inline(&self, digest: &Digest) -> bool {
        digest.size() <= self.options.max_inline_blob_size
    }

    async fn present(&self, digests: &[Digest]) -> Result<DigestSet, StoreError> {
        let mut present = DigestSet::default();
        for window in digests.chunks(self.options.window) {
            present.extend(until_available(|| self.index.present(window, self.now())).await?);
        }
        Ok(present)
    }

    /// Waits until none of `digests` is being deleted.
    async fn wait_for_deletions(&self, digests: &[Digest]) -> Result<(), StoreError> {
        while !until_available(|| self.index.claimed(digests, self.now())).await?.is_empty() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Notes blobs that were just stored. One whose deletion began meanwhile is noted once that is over; it may be gone
    /// by then: then that is said, and no blob acknowledged.
    async fn note(&self, blobs: &[NewBlob]) -> Result<(), StoreError> {
        let mut left = blobs.to_vec();
        loop {
            let claimed = until_available(|| self.index.insert(&left, self.now())).await?;
            left.retain(|blob| claimed.contains(&blob.digest));
            if left.is_empty() {
                return Ok(());
            }
            self.wait_for_deletions(&left.iter().map(|blob| blob.digest).collect::<Vec<_>>()).await?;
            let outside = left.iter().filter(|blob| blob.content.is_none());
            let outside: Vec<Digest> = outside.map(|blob| blob.digest).collect();
            let lost = self.storage.find_missing(&outside).await?;
            if !lost.is_empty() {
                self.heal(&lost).await;
                let message = "a blob was deleted while it was stored; it must be sent again".to_owned();
                return Err(StoreError::Unavailable { backend: LABEL.into(), message, retry_after: None });
            }
        }
    }

    /// The content of those of `digests` that the index keeps.
    async fn inline(&self, digests: &[Digest]) -> Result<DigestMap<Bytes>, StoreError> {
        let small: Vec<Digest> = digests
            .iter()
            .filter(|digest| self.is_inline(digest) && !is_empty_blob(digest))
            .copied()
            .collect();
        if small.is_empty() {
            return Ok(DigestMap::default());
        }
        let mut found = DigestMap::default();
        for (digest, bytes) in until_available(|| self.index.contents(&small)).await? {
            // The key does not tell the size: another one is another blob.
            if bytes.len() as u64 == digest.size() {
                found.insert(digest, bytes);
            }
        }
        Ok(found)
    }

    /// Forgets blobs that the storage has lost. Somebody may have stored and noted one since it was looked for: so they
    /// are claimed, and looked for again.
    async fn heal(&self, lost: &[Digest]) {
        let (now, until) = (self.now(), self.now().after(CLAIM));
        let healed = async {
            let claimed = self.index.claim_these(lost, now, until).await?;
            let still = self.still_lost(&claimed).await;
            let is_gone = |digest: &Digest| still.as_ref().is_ok_and(|gone| gone.contains(digest));
            let (gone, there): (Vec<_>, Vec<_>) = claimed.into_iter().partition(is_gone);
            self.index.release(&there, until).await?;
            let freed = self.index.forget(&gone, until).await;
            still.and(freed)
        };
        match healed.await {
            Ok(freed) => {
                (0..freed.blobs).for_each(|_| self.options.observer.event(LABEL, StoreEvent::Dangling));
            }
            Err(error) => tracing::warn!(%error, "lost blobs could not be taken out of the index"),
        }
    }

    /// Those that neither the index keeps nor the storage gives whole.
    async fn still_lost(&self, claimed: &[Digest]) -> Result<DigestSet, StoreError> {
        let inline = self.inline(claimed).await?;
        let outside = content::missing_of(claimed, |digest| inline.contains_key(digest));
        let mut lost: DigestSet = self.storage.find_missing(&outside).await?.into_iter().collect();
        for digest in content::missing_of(&outside, |digest| lost.contains(digest)) {
            match self.drain(&digest).await {
                Ok(()) => {}
                Err(StoreError::NotFound(_) | StoreError::Corrupt { .. }) => {
                    lost.insert(digest);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(lost)
    }

    /// Reads all of a blob, to see whether it is sound.
    async fn drain(&self, digest: &Digest) -> Result<(), StoreError> {
        let mut content = self.storage.read(digest, ByteRange::default()).await?;
        while content.try_next().await?.is_some() {}
        Ok(())
    }

    /// Stores what is not there; gives the answers of those that were tried.
    async fn store_missing(&self, missing: Vec<(Digest, Bytes)>) -> DigestMap<Result<(), StoreError>> {
        let (inline, outside): (Vec<_>, Vec<_>) =
            missing.into_iter().partition(|(digest, _)| self.is_inline(digest));
        let digests: Vec<Digest> = outside.iter().map(|(digest, _)| *digest).collect();
        let stored = if outside.is_empty() { Vec::new() } else { self.storage.write_batch(outside).await };
        let mut answers: DigestMap<Result<(), StoreError>> = digests.into_iter().zip(stored).collect();
        let kept = answers.iter().filter(|(_, answer)| answer.is_ok());
        let mut noted: Vec<NewBlob> =
            kept.map(|(digest, _)| NewBlob { digest: *digest, content: None }).collect();
        noted.extend(inline.into_iter().map(|(digest, bytes)| NewBlob { digest, content: Some(bytes) }));
        for window in noted.chunks(self.options.window) {
            let answer = self.note(window).await;
            answers.extend(window.iter().map(|blob| (blob.digest, answer.clone())));
        }
        answers
    }
}

#[async_trait]
impl BlobStore for SqlIndex {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let present = self.present(digests).await?;
        Ok(content::missing_of(digests, |digest| present.contains(digest)))
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        if let Some(bytes) = self.inline(&[*digest]).await?.remove(digest) {
            self.uses.note(&[*digest]);
            return content::slice(digest, &bytes, range).map(content::from_bytes);
        }
        let answer = self.storage.read(digest, range).await;
        match &answer {
            Ok(_) => self.uses.note(&[*digest]),
            Err(StoreError::NotFound(_) | StoreError::Corrupt { .. }) => self.heal(&[*digest]).await,
            Err(_) => {}
        }
        answer
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        if is_empty_blob(digest) || self.present(&[*digest]).await?.contains(digest) {
            return Ok(());
        }
        self.wait_for_deletions(&[*digest]).await?;
        let content = if self.is_inline(digest) {
            Some(Bytes::copy_from_slice(&content::collect(digest, content).await?))
        } else {
            self.storage.write(digest, content).await?;
            None
        };
        self.note(&[NewBlob { digest: *digest, content }]).await
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        let inline = match self.inline(digests).await {
            Ok(inline) => inline,
            Err(error) => return vec![Err(error); digests.len()],
        };
        let outside: Vec<Digest> =
            digests.iter().filter(|digest| !inline.contains_key(*digest)).copied().collect();
        let read = if outside.is_empty() { Vec::new() } else { self.storage.read_batch(&outside).await };
        let lost = |(_, answer): &(&Digest, &Result<Bytes, StoreError>)| {
            matches!(answer, Err(StoreError::NotFound(_) | StoreError::Corrupt { .. }))
        };
        let lost: Vec<Digest> = outside.iter().zip(&read).filter(lost).map(|(digest, _)| *digest).collect();
        if !lost.is_empty() {
            self.heal(&lost).await;
        }
        self.uses.note(digests);
        let mut read = read.into_iter();
        let answer = |digest: &Digest| match inline.get(digest) {
            Some(bytes) => Ok(bytes.clone()),
            None => read.next().unwrap_or(Err(StoreError::NotFound(*digest))),
        };
        digests.iter().map(answer).collect()
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let digests: Vec<Digest> = blobs.iter().map(|(digest, _)| *digest).collect();
        let prepared = async {
            let present = self.present(&digests).await?;
            let missing: Vec<Digest> = content::missing_of(&digests, |digest| present.contains(digest));
            if !missing.is_empty() {
                self.wait_for_deletions(&missing).await?;
            }
            Ok(missing.into_iter().collect::<DigestSet>())
        };
        let mut missing = match prepared.await {
            Ok(missing) => missing,
            Err(error) => return vec![Err(error); digests.len()],
        };
        let mut wrong = DigestMap::default();
        let mut new = Vec::with_capacity(missing.len());
        for (digest, bytes) in blobs {
            let actual = bytes.len() as u64;
            if missing.contains(&digest) && actual != digest.size() {
                wrong.insert(digest, Err(StoreError::SizeMismatch { expected: digest, actual }));
            } else if missing.remove(&digest) {
                new.push((digest, bytes));
            }
        }
        let mut answers = self.store_missing(new).await;
        for (digest, error) in wrong {
            answers.entry(digest).or_insert(error);
        }
        digests.iter().map(|digest| answers.get(digest).cloned().unwrap_or(Ok(()))).collect()
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        let (now, until) = (self.now(), self.now().after(CLAIM));
        if let Err(error) = until_available(|| self.index.claim_these(digests, now, until)).await {
            return vec![Err(error); digests.len()];
        }
        let answers = self.storage.delete(digests).await;
        let gone = digests.iter().zip(&answers).filter(|(_, answer)| answer.is_ok());
        let gone: Vec<Digest> = gone.map(|(digest, _)| *digest).collect();
        match until_available(|| self.index.forget(&gone, until)).await {
            Ok(_) => answers,
            Err(error) => vec![Err(error); digests.len()],
        }
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.index.probe().await?;
        self.storage.probe().await
    }
}

/// Notes the uses that reads are, a second's worth in one statement, each blob's once in half of the index's precision.
#[derive(Debug)]
struct Uses {
    index: Arc<dyn BlobIndex>,
    clock: Arc<dyn Clock>,
    window: usize,
    lately: Cache<Digest, ()>,
    waiting: Mutex<DigestSet>,
    noting: AtomicBool,
}

impl Uses {
    fn new(index: Arc<dyn BlobIndex>, clock: Arc<dyn Clock>, window: usize) -> Self {
        let lately = (index.precision() / 2).max(NOTE_AFTER);
        let lately = Cache::builder().max_capacity(REMEMBERED).time_to_live(lately).build();
        Self { index, clock, window, lately, waiting: Mutex::default(), noting: AtomicBool::new(false) }
    }

    fn note(self: &Arc<Self>, digests: &[Digest]) {
        let new = digests.iter().filter(|digest| !self.lately.contains_key(*digest));
        let new: Vec<Digest> = new.copied().collect();
        if new.is_empty() {
            return;
        }
        new.iter().for_each(|digest| self.lately.insert(*digest, ()));
        self.waiting.lock().extend(new);
        if !self.noting.swap(true, Ordering::AcqRel) {
            let this = Arc::clone(self);
            tokio::spawn(async move { this.write_down().await });
        }
    }

    async fn write_down(&self) {
        tokio::time::sleep(NOTE_AFTER).await;
        self.noting.store(false, Ordering::Release);
        let waiting: Vec<Digest> = std::mem::take(&mut *self.waiting.lock()).into_iter().collect();
        for window in waiting.chunks(self.window) {
            if let Err(error) = self.index.present(window, self.clock.now()).await {
                tracing::warn!(%error, "uses of blobs could not be noted");
            }
        }
    }
}
