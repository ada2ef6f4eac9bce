//! Which blobs travel together: batches under the server's limit, and streams for what doesn't fit.
//!
//! Pure; neighbours: `client` makes the calls.

use grid_core::Digest;

/// What a blob adds to a message besides its bytes: hash, size, status, field tags; generous.
const ENTRY_OVERHEAD: u64 = 256;
/// The most blobs in one batch: bounds the memory of the answers' bookkeeping.
const MOST_ENTRIES: usize = 2_000;

/// Calls that together carry a set of blobs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Blobs that go together in one batch call.
    pub batches: Vec<Vec<Digest>>,
    /// Blobs that need a stream each.
    pub streams: Vec<Digest>,
}

/// Splits `digests`, in their order, so that no batch passes `limit` bytes; a blob that would fill more than
/// half a batch by itself is streamed, since it gains nothing from company.
#[must_use]
pub fn plan(digests: impl IntoIterator<Item = Digest>, limit: u64) -> Plan {
    let mut plan = Plan::default();
    let mut batch = Vec::new();
    let mut used = 0;
    for digest in digests {
        let cost = digest.size().saturating_add(ENTRY_OVERHEAD);
        if cost > limit / 2 {
            plan.streams.push(digest);
            continue;
        }
        if used + cost > limit || batch.len() == MOST_ENTRIES {
            plan.batches.push(std::mem::take(&mut batch));
            used = 0;
        }
        used += cost;
        batch.push(digest);
    }
    if !batch.is_empty() {
        plan.batches.push(batch);
    }
    plan
}

#[cfg(test)]
mod tests {
    use grid_core::DigestFunction;
    use proptest::prelude::*;

    use super::*;

    fn digest(size: u64) -> Digest {
        Digest::new(DigestFunction::Sha256, &[7; 32], size).unwrap()
    }

    proptest! {
        #[test]
        fn every_blob_travels_once_and_no_batch_is_too_large(
            sizes in proptest::collection::vec(0_u64..10_000, 0..200),
            limit in 1_000_u64..20_000,
        ) {
            let plan = plan(sizes.iter().map(|s| digest(*s)), limit);
            for batch in &plan.batches {
                prop_assert!(!batch.is_empty());
                prop_assert!(batch.iter().map(Digest::size).sum::<u64>() <= limit);
            }
            let mut planned: Vec<u64> =
                plan.batches.iter().flatten().chain(&plan.streams).map(Digest::size).collect();
            let mut given = sizes;
            planned.sort_unstable();
            given.sort_unstable();
            prop_assert_eq!(planned, given);
        }
    }
}
