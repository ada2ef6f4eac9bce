//! Packs blobs into batches that keep to the server's limit.

use crate::transfer::BATCH_ENTRY_OVERHEAD;

/// Most blobs in a batch, however small: a bound on what one call asks of a server.
const MAX_ENTRIES: usize = 4_000;

/// `items`, each with its size in bytes, in as few batches in order as `limit` allows. An item larger than
/// the limit gets a batch of its own.
pub(crate) fn pack<T>(items: impl IntoIterator<Item = (u64, T)>, limit: u64) -> Vec<Vec<T>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut filled = 0;
    for (size, item) in items {
        let cost = size.saturating_add(BATCH_ENTRY_OVERHEAD);
        if !batch.is_empty() && (filled + cost > limit || batch.len() == MAX_ENTRIES) {
            batches.push(std::mem::take(&mut batch));
            filled = 0;
        }
        filled = cost.saturating_add(filled);
        batch.push(item);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_and_no_batch_overflows() {
        let sizes = [10, 900, 100, 0, 5_000, 1, 1, 700];
        let limit = 1_500;
        let batches = pack(sizes.iter().map(|&size| (size, size)), limit);
        assert_eq!(batches.concat(), sizes);
        for batch in &batches {
            let cost: u64 = batch.iter().map(|size| size + BATCH_ENTRY_OVERHEAD).sum();
            assert!(cost <= limit || batch.len() == 1, "{batch:?}");
        }
        assert_eq!(batches.len(), 4);
    }

    #[test]
    fn tiny_blobs_are_bounded_by_number() {
        let batches = pack((0..10_000).map(|i| (0, i)), u64::MAX);
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [4_000, 4_000, 2_000]);
    }
}
