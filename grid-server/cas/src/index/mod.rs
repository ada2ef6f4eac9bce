//! [`BlobIndex`]: which blobs a storage holds and when each was last used, kept beside the storage.
//!
//! The `sql_index` decorator answers from it, and [`crate::cleanup`] finds in it what to delete. Two rules make deletion
//! safe beside live traffic. Whoever is told that a blob is there has noted a use in the same step, and recently used
//! blobs are not claimed. And a claimed blob is absent for everyone until its row is gone: a writer waits for that (or
//! for the claim's end, after which its holder deletes nothing any more) before it stores the blob anew.
//!
//! A pin is a use that is still to come: nothing that is noted later brings it forward, so that cleaning has only uses to go by.

mod clock;
pub mod redis;
#[cfg(feature = "sql")]
pub mod sql;
pub mod timed;

use std::fmt::{self, Debug};
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use grid_core::{Digest, Timestamp};
use uuid::Uuid;

pub use self::clock::IndexClock;
use crate::StoreError;
use crate::content::DigestSet;

/// How many blobs, and how many bytes they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many bytes.
    pub bytes: u64,
    /// How many blobs.
    pub blobs: u64,
}

impl Totals {
    /// The totals of these blobs.
    pub fn of<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> Self {
        let add = |sum: Self, digest: &Digest| sum.plus(Self { bytes: digest.size(), blobs: 1 });
        digests.into_iter().fold(Self::default(), add)
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, blobs: self.blobs + other.blobs }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes in {} blobs", self.bytes, self.blobs)
    }
}

/// A blob to be noted.
#[derive(Clone, Debug)]
pub struct NewBlob {
    /// The blob.
    pub digest: Digest,
    /// Its content, where the index is to keep it.
    pub content: Option<Bytes>,
}

/// Which blobs to claim for deletion: the least recently used first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Only blobs that were last used before this.
    pub unused_since: Timestamp,
    /// Also blobs of more than so many bytes that were last used before this.
    pub large: Option<(u64, Timestamp)>,
    /// Stop once the claimed ones have so many bytes together.
    pub bytes: u64,
    /// Claim at most so many.
    pub blobs: u64,
    /// Now.
    pub now: Timestamp,
    /// When the claim ends by itself, and its holder must have stopped deleting.
    pub until: Timestamp,
}

/// How far ahead a clock that is wrong may note a use. What is noted further ahead is pinned.
pub const SKEW: Duration = Duration::from_secs(60);

/// A blob that is kept until then, whether it is used or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The blob.
    pub digest: Digest,
    /// Until when.
    pub until: Timestamp,
}

/// What an index has, some at a time, in no order; the first error ends them.
pub type Pages<'a, T> = Pin<Box<dyn Stream<Item = Result<Vec<T>, StoreError>> + Send + 'a>>;

/// Blobs of an index.
pub type Known<'a> = Pages<'a, Digest>;

/// An index of one storage. Every call is one transaction.
#[async_trait]
pub trait BlobIndex: Debug + Send + Sync {
    /// Those of `digests` that are there and not claimed. Their use is noted in the same step, to within
    /// [`BlobIndex::precision`].
    ///
    /// # Errors
    /// The database's trouble, here and everywhere.
    async fn present(&self, digests: &[Digest], now: Timestamp) -> Result<DigestSet, StoreError>;

    /// How much older than its note a blob's last use may be.
    fn precision(&self) -> Duration;

    /// The content of those of `digests` that the index itself keeps.
    async fn contents(&self, digests: &[Digest]) -> Result<Vec<(Digest, Bytes)>, StoreError>;

    /// Notes blobs that are stored now, but none that is claimed: whoever claimed it may yet delete what was just stored. A
    /// claim that has ended is cleared. Gives those that were claimed, be it that they are still, or that the claim has
    /// ended: its holder may have deleted them after they were stored.
    async fn insert(&self, blobs: &[NewBlob], now: Timestamp) -> Result<DigestSet, StoreError>;

    /// Notes blobs that a storage was found to hold, claimed until `until`; gives those that were not known.
    async fn adopt(
        &self,
        digests: &[Digest],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<DigestSet, StoreError>;

    /// Those of `digests` that are noted, claimed or not. Counts as no use.
    async fn noted(&self, digests: &[Digest]) -> Result<DigestSet, StoreError>;

    /// Everything that is there, not claimed, and not kept by the index itself: what the storage must have. Counts as no
    /// use; what is noted or forgotten meanwhile may be among it or not.
    fn known(&self) -> Known<'_>;

    /// Those of `digests` that are claimed, by claims that have not ended.
    async fn claimed(&self, digests: &[Digest], now: Timestamp) -> Result<DigestSet, StoreError>;

    /// Claims the oldest blobs for deletion. Two callers never get the same one.
    async fn claim(&self, claim: &Claim) -> Result<Vec<Digest>, StoreError>;

    /// What [`BlobIndex::claim`] would claim at most, if its limits were without bounds.
    async fn eligible(&self, claim: &Claim) -> Result<Totals, StoreError>;

    /// Claims these blobs, however recently they were used; gives those that it got.
    async fn claim_these(
        &self,
        digests: &[Digest],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Digest>, StoreError>;

    /// Forgets blobs of the claim that ends at `until`. Those noted anew since then stay.
    async fn forget(&self, digests: &[Digest], until: Timestamp) -> Result<Totals, StoreError>;

    /// Gives up the claim that ends at `until` on these blobs: they are there again.
    async fn release(&self, digests: &[Digest], until: Timestamp) -> Result<(), StoreError>;

    /// Pins those of `digests` that are there and not claimed; gives them. One that is pinned for longer stays so.
    async fn pin(&self, digests: &[Digest], until: Timestamp) -> Result<DigestSet, StoreError>;

    /// Ends the pins of `digests`, which count as used now; gives those that had one.
    async fn unpin(&self, digests: &[Digest], now: Timestamp) -> Result<DigestSet, StoreError>;

    /// Everything that is pinned.
    fn pins(&self, now: Timestamp) -> Pages<'_, Pinned>;

    /// What all pinned blobs add up to.
    async fn pinned(&self, now: Timestamp) -> Result<Totals, StoreError>;

    /// Makes it `holder`'s turn to clean until `until`, unless it is somebody else's; tells whether it is.
    async fn take_turn(&self, holder: Uuid, now: Timestamp, until: Timestamp) -> Result<bool, StoreError>;

    /// Ends `holder`'s turn.
    async fn end_turn(&self, holder: Uuid) -> Result<(), StoreError>;

    /// What time it is for the database; `None` where that has no clock of its own. All times that are given to one index are
    /// to be of one clock: see [`IndexClock`].
    async fn time(&self) -> Result<Option<Timestamp>, StoreError>;

    /// What all noted blobs add up to, exactly, without a look at each.
    async fn totals(&self) -> Result<Totals, StoreError>;

    /// Whether the database answers.
    async fn probe(&self) -> Result<(), StoreError>;
}
