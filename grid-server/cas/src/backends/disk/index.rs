//! What lies on the disk and when it was last used, in memory: about 140 bytes a blob, so that existence costs no
//! system call and eviction finds the oldest without reading folders.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use grid_core::{Digest, Timestamp};
use parking_lot::Mutex;

use crate::content::DigestMap;

/// How stale a file's own time of access may become before it is written again. After a restart the order of
/// eviction is right to within this.
const STAMP_EVERY: Duration = Duration::from_secs(3600);
const SHARDS: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Access {
    /// How many bytes its file has.
    length: u64,
    used: Timestamp,
    /// What the file's time of access says.
    stamped: Timestamp,
}

/// Whether a blob is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    Absent,
    Present,
    /// It is, and its file's time of access should be renewed.
    PresentStale,
}

#[derive(Debug)]
pub(super) struct Index {
    shards: Vec<Mutex<DigestMap<Access>>>,
    bytes: AtomicU64,
}

impl Index {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), bytes: AtomicU64::new(0) }
    }

    /// The length of all files in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    fn shard(&self, digest: &Digest) -> &Mutex<DigestMap<Access>> {
        &self.shards[usize::from(digest.hash_bytes()[1]) % SHARDS]
    }

    /// Notes a use.
    pub(super) fn touch(&self, digest: &Digest, now: Timestamp) -> Touch {
        let mut shard = self.shard(digest).lock();
        let Some(access) = shard.get_mut(digest) else { return Touch::Absent };
        access.used = access.used.max(now);
        if now.since(access.stamped) < STAMP_EVERY {
            return Touch::Present;
        }
        access.stamped = now;
        Touch::PresentStale
    }

    /// Notes a blob whose file has `length` bytes, last used (as the file says, too) at `used`.
    pub(super) fn insert(&self, digest: &Digest, length: u64, used: Timestamp) {
        let access = Access { length, used, stamped: used };
        let replaced = self.shard(digest).lock().insert(*digest, access);
        self.bytes.fetch_add(length, Ordering::AcqRel);
        self.bytes.fetch_sub(replaced.map_or(0, |replaced| replaced.length), Ordering::AcqRel);
    }

    /// As [`Index::insert`], without touching an entry that is there.
    pub(super) fn insert_found(&self, digest: &Digest, length: u64, used: Timestamp) {
        let mut shard = self.shard(digest).lock();
        shard.entry(*digest).or_insert_with(|| {
            self.bytes.fetch_add(length, Ordering::AcqRel);
            Access { length, used, stamped: used }
        });
    }

    pub(super) fn remove(&self, digest: &Digest) {
        if let Some(removed) = self.shard(digest).lock().remove(digest) {
            self.bytes.fetch_sub(removed.length, Ordering::AcqRel);
        }
    }

    /// When the blob was last used, if it is there, and how many bytes its file has.
    pub(super) fn used(&self, digest: &Digest) -> Option<(Timestamp, u64)> {
        self.shard(digest).lock().get(digest).map(|access| (access.used, access.length))
    }

    /// The least recently used blobs whose files together have `bytes` bytes or a little more, oldest first.
    ///
    /// Two passes, so that only those found are held whole: the first looks for the time up to which to go.
    pub(super) fn oldest(&self, bytes: u64) -> Vec<(Timestamp, Digest)> {
        let mut ages: Vec<(Timestamp, u64)> = Vec::new();
        for shard in &self.shards {
            ages.extend(shard.lock().values().map(|access| (access.used, access.length)));
        }
        ages.sort_unstable();
        let mut sum = 0_u64;
        let enough = ages.iter().find(|(_, size)| {
            sum += size;
            sum >= bytes
        });
        let Some(cutoff) = enough.or(ages.last()).map(|(used, _)| *used) else { return Vec::new() };
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let old = shard.iter().filter(|(_, access)| access.used <= cutoff);
            found.extend(old.map(|(digest, access)| (access.used, *digest, access.length)));
        }
        found.sort_unstable();
        let mut sum = 0_u64;
        let surplus = found.iter().position(|(_, _, length)| {
            let enough = sum >= bytes;
            sum += length;
            enough
        });
        found.truncate(surplus.unwrap_or(found.len()));
        found.into_iter().map(|(used, digest, _)| (used, digest)).collect()
    }
}

#[cfg(test)]
mod tests {
    use grid_core::DigestFunction;
    use proptest::prelude::*;

    use super::*;

    fn digest(number: u16, size: u64) -> Digest {
        let mut hash = [0; 32];
        hash[..2].copy_from_slice(&number.to_be_bytes());
        Digest::new(DigestFunction::Sha256, &hash, size).unwrap()
    }

    proptest! {
        #[test]
        fn the_oldest_are_a_prefix_of_all_in_order_of_use(
            blobs in prop::collection::vec((0_i64..50, 1_u64..100), 0..80),
            bytes in 0_u64..3_000,
        ) {
            let index = Index::new();
            let mut model: Vec<_> = (0_u16..).zip(&blobs).map(|(n, (used, size))| (Timestamp(*used), digest(n, *size))).collect();
            model.iter().for_each(|(used, digest)| index.insert(digest, digest.size(), *used));
            model.sort_unstable();
            let found = index.oldest(bytes);
            prop_assert_eq!(&model[..found.len()], &found[..]);
            let sum = |entries: &[(Timestamp, Digest)]| entries.iter().map(|(_, d)| d.size()).sum::<u64>();
            prop_assert!(sum(&found) >= bytes || found.len() == model.len());
            prop_assert!(found.is_empty() || sum(&found[..found.len() - 1]) < bytes || bytes == 0);
            prop_assert_eq!(index.bytes(), sum(&model));
        }
    }

    #[test]
    fn a_files_time_is_renewed_once_an_hour() {
        let index = Index::new();
        let blob = digest(1, 1);
        let start = Timestamp::from_parts(1_000_000, 0);
        let at = |seconds| start.after(Duration::from_secs(seconds));
        assert_eq!(index.touch(&blob, start), Touch::Absent);
        index.insert(&blob, 1, start);
        let touches =
            [10, 3_599, 3_600, 3_700, 7_199, 7_200].map(|s| index.touch(&blob, at(s)) == Touch::PresentStale);
        assert_eq!(touches, [false, false, true, false, false, true]);
    }
}
