//! [`Report`]: what a run did, and why it did not do more.

use std::fmt;
use std::time::Duration;

use grid_core::Timestamp;

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
    /// Why.
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

impl Kept {
    pub(super) fn new(
        totals: Totals,
        failed: Totals,
        eligible: Totals,
        now: Timestamp,
        unused_since: Timestamp,
    ) -> Self {
        let reason = if failed.blobs > 0 {
            Reason::NotDeletable
        } else if eligible.blobs > 0 {
            Reason::ClaimedByAnother
        } else {
            Reason::UsedWithin(now.since(unused_since))
        };
        Self { totals, reason }
    }
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
        if let Some(Kept { totals, reason }) = &self.kept {
            write!(
                f,
                "; {} bytes and {} blobs above the low watermark were kept: ",
                totals.bytes, totals.blobs
            )?;
            match reason {
                Reason::UsedWithin(time) => write!(f, "they were used within the last {time:?}")?,
                Reason::NotDeletable => f.write_str("the storage could not delete them")?,
                Reason::ClaimedByAnother => f.write_str("somebody else is deleting them")?,
                Reason::AnothersTurn => f.write_str("another cleaner is at work, and sees to them")?,
            }
        }
        Ok(())
    }
}
