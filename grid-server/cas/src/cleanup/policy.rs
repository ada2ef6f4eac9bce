//! [`Policy`]: when to delete, down to what, and what never to.

use std::time::Duration;

use crate::index::Totals;

/// The options of BuildGrid's `cleanup`, and `promised_lifetime`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Clean when the blobs have at least so many bytes (`high-watermark`).
    pub high_bytes: u64,
    /// Stop at so many bytes (`low-watermark`).
    pub low_bytes: u64,
    /// Clean when there are at least so many blobs, and stop at so many (`high-blob-count-watermark`,
    /// `low-blob-count-watermark`).
    pub blob_counts: Option<(u64, u64)>,
    /// How many bytes one batch deletes (`batch-size`).
    pub batch_bytes: u64,
    /// How many blobs one batch deletes at most (`window-size` of the index).
    pub batch_blobs: u64,
    /// Never delete what was used more recently (`only-if-unused-for`).
    pub only_if_unused_for: Duration,
    /// For how long a client that was told of a blob may rely on it; 3 hours by default, Bazel's
    /// `--experimental_remote_cache_ttl`.
    pub promised_lifetime: Duration,
    /// Blobs of more than so many bytes may go once they are unused for so long (`large-blob-threshold`,
    /// `large-blob-lifetime`), but not within the promised lifetime.
    pub large_blobs: Option<(u64, Duration)>,
    /// How often a call to the index is tried again (`retry-limit`).
    pub retry_limit: u32,
    /// Only tell what would be deleted.
    pub dry_run: bool,
}

impl Policy {
    /// A policy between two watermarks in bytes, with BuildGrid's defaults and the promise of 3 hours.
    #[must_use]
    pub fn new(high_bytes: u64, low_bytes: u64, batch_bytes: u64) -> Self {
        Self {
            high_bytes,
            low_bytes,
            blob_counts: None,
            batch_bytes,
            batch_blobs: 1_000,
            only_if_unused_for: Duration::ZERO,
            promised_lifetime: Duration::from_secs(3 * 3600),
            large_blobs: None,
            retry_limit: 10,
            dry_run: false,
        }
    }

    /// How long a blob must be unused. An index notes uses only so precisely: the promise allows for it.
    pub(super) fn unused_for(&self, precision: Duration) -> Duration {
        self.only_if_unused_for.max(self.promised_lifetime) + precision
    }

    /// From which size on, and after how long, large blobs may go.
    pub(super) fn large(&self, precision: Duration) -> Option<(u64, Duration)> {
        self.large_blobs.map(|(size, lifetime)| (size, lifetime.max(self.promised_lifetime) + precision))
    }

    pub(super) fn is_above_high(&self, totals: Totals) -> bool {
        totals.bytes >= self.high_bytes || self.blob_counts.is_some_and(|(high, _)| totals.blobs >= high)
    }

    pub(super) fn low(&self) -> Totals {
        Totals { bytes: self.low_bytes, blobs: self.blob_counts.map_or(u64::MAX, |(_, low)| low) }
    }

    /// How much there is above the low watermarks.
    pub(super) fn excess(&self, totals: Totals) -> Totals {
        let low = self.low();
        Totals {
            bytes: totals.bytes.saturating_sub(low.bytes),
            blobs: totals.blobs.saturating_sub(low.blobs),
        }
    }

    pub(super) fn is_at_low(&self, totals: Totals) -> bool {
        self.excess(totals) == Totals::default()
    }
}
