//! [`Report`]: what a run did, and why it did not do more.

use std::fmt;
use std::time::Duration;

use super::Policy;
use crate::index::Totals;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How long the last batch took.
    pub took: Duration,
    /// Deleted so far.
    pub deleted: Totals,
    /// Still there.
    pub remaining: Totals,
    /// The low watermarks.
    pub target: Totals,
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was there before.
    pub before: Totals,
    /// What is there now.
    pub after: Totals,
    /// The low watermarks.
    pub target: Totals,
    /// What was deleted.
    pub deleted: Totals,
    /// What could not be deleted, and stays.
    pub failed: Totals,
    /// In a dry run: what would be deleted.
    pub would_delete: Option<Totals>,
    /// What is above the low watermark still, and why; `None` where it was reached or nothing was to be done.
    pub kept: Option<Kept>,
}

/// What a run left above the low watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// How much.
    pub totals: Totals,
    /// How much is pinned, of what there is.
    pub pinned: Totals,
    /// Why, where it is not pinned.
    pub reason: Reason,
}

/// Why blobs above the low watermark were kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// They were used within this time, for which they are promised.
    UsedWithin(Duration),
    /// The storage failed to delete them.
    NotDeletable,
    /// Somebody else is deleting them.
    ClaimedByAnother,
    /// Another cleaner is at work on this storage, and sees to them.
    AnothersTurn,
}

impl Report {
    pub(super) fn new(before: Totals, policy: &Policy) -> Self {
        let zero = Totals::default();
        let target = policy.low();
        Self { before, after: before, target, deleted: zero, failed: zero, would_delete: None, kept: None }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.before)?;
        match &self.would_delete {
            Some(would) => write!(f, ", would delete {would}")?,
            None => write!(f, ", deleted {}", self.deleted)?,
        }
        if self.failed.blobs > 0 {
            write!(f, ", failed to delete {}", self.failed)?;
        }
        self.kept.as_ref().map_or(Ok(()), |kept| write!(f, "; {kept}"))
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { totals: Totals { bytes, blobs }, pinned, reason } = self;
        write!(f, "{bytes} bytes and {blobs} blobs above the low watermark were kept: ")?;
        let (they, them) = if pinned.blobs > 0 {
            write!(f, "{pinned} are pinned, and ")?;
            ("all others", "the others")
        } else {
            ("they", "them")
        };
        match reason {
            Reason::UsedWithin(time) => write!(f, "{they} were used within the last {time:?}"),
            Reason::NotDeletable => write!(f, "the storage could not delete {them}"),
            Reason::ClaimedByAnother => write!(f, "somebody else is deleting {them}"),
            Reason::AnothersTurn => write!(f, "another cleaner is at work, and sees to {them}"),
        }
    }
}
