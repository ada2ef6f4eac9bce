//! [`Timed`]: tells a [`StoreObserver`](crate::observer::StoreObserver) how long the calls of an index took. It changes nothing.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use grid_core::{Coded, Digest, Timestamp};
use uuid::Uuid;

use super::{BlobIndex, Claim, Known, NewBlob, Pages, Pinned, Totals};
use crate::StoreError;
use crate::content::DigestSet;
use crate::observer::{IndexCall, SharedObserver, StoreEvent};

/// An index whose calls are measured.
#[derive(Debug)]
pub struct Timed {
    inner: Arc<dyn BlobIndex>,
    label: &'static str,
    observer: SharedObserver,
}

impl Timed {
    /// Tells `observer` of the calls of `inner`, under the label of its storage.
    #[must_use]
    pub fn new(inner: Arc<dyn BlobIndex>, label: &'static str, observer: SharedObserver) -> Self {
        Self { inner, label, observer }
    }

    async fn timed<T>(
        &self,
        call: IndexCall,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let result = work.await;
        let error = result.as_ref().err().map(Coded::code);
        self.observer.event(self.label, StoreEvent::Index { call, error, took: began.elapsed() });
        result
    }
}

#[async_trait]
impl BlobIndex for Timed {
    async fn present(&self, digests: &[Digest], now: Timestamp) -> Result<DigestSet, StoreError> {
        self.timed(IndexCall::Present, self.inner.present(digests, now)).await
    }

    fn precision(&self) -> Duration {
        self.inner.precision()
    }

    async fn contents(&self, digests: &[Digest]) -> Result<Vec<(Digest, Bytes)>, StoreError> {
        self.inner.contents(digests).await
    }

    async fn insert(&self, blobs: &[NewBlob], now: Timestamp) -> Result<DigestSet, StoreError> {
        self.timed(IndexCall::Insert, self.inner.insert(blobs, now)).await
    }

    async fn adopt(
        &self,
        digests: &[Digest],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<DigestSet, StoreError> {
        self.inner.adopt(digests, now, until).await
    }

    async fn noted(&self, digests: &[Digest]) -> Result<DigestSet, StoreError> {
        self.inner.noted(digests).await
    }

    fn known(&self) -> Known<'_> {
        self.inner.known()
    }

    async fn claimed(&self, digests: &[Digest], now: Timestamp) -> Result<DigestSet, StoreError> {
        self.inner.claimed(digests, now).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Digest>, StoreError> {
        self.timed(IndexCall::Claim, self.inner.claim(claim)).await
    }

    async fn eligible(&self, claim: &Claim) -> Result<Totals, StoreError> {
        self.inner.eligible(claim).await
    }

    async fn claim_these(
        &self,
        digests: &[Digest],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Digest>, StoreError> {
        self.inner.claim_these(digests, now, until).await
    }

    async fn forget(&self, digests: &[Digest], until: Timestamp) -> Result<Totals, StoreError> {
        self.timed(IndexCall::Forget, self.inner.forget(digests, until)).await
    }

    async fn release(&self, digests: &[Digest], until: Timestamp) -> Result<(), StoreError> {
        self.inner.release(digests, until).await
    }

    async fn pin(&self, digests: &[Digest], until: Timestamp) -> Result<DigestSet, StoreError> {
        self.inner.pin(digests, until).await
    }

    async fn unpin(&self, digests: &[Digest], now: Timestamp) -> Result<DigestSet, StoreError> {
        self.inner.unpin(digests, now).await
    }

    fn pins(&self, now: Timestamp) -> Pages<'_, Pinned> {
        self.inner.pins(now)
    }

    async fn pinned(&self, now: Timestamp) -> Result<Totals, StoreError> {
        self.inner.pinned(now).await
    }

    async fn take_turn(&self, holder: Uuid, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        self.inner.take_turn(holder, now, until).await
    }

    async fn end_turn(&self, holder: Uuid) -> Result<(), StoreError> {
        self.inner.end_turn(holder).await
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.inner.time().await
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        self.timed(IndexCall::Totals, self.inner.totals()).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.inner.probe().await
    }
}
