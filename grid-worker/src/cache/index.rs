//! [`Index`]: which files are cached, who uses them, and which go when space is short. Pure.
//!
//! Neighbour: `file_cache` keeps the disk in step with it. The capacity bounds what is kept, not what is in
//! use: a file in use is never given up, even when all of them together are too much.

use lru::LruCache;

use super::key::FileKey;

/// The files of a cache, from the most to the least recently used.
#[derive(Debug)]
pub(super) struct Index {
    entries: LruCache<FileKey, usize>,
    bytes: u64,
    capacity: u64,
}

/// What a file takes on disk, near enough: whole blocks, and its inode.
pub(super) const fn footprint(size: u64) -> u64 {
    size.next_multiple_of(4096) + 512
}

impl Index {
    pub(super) fn new(capacity: u64) -> Self {
        Self { entries: LruCache::unbounded(), bytes: 0, capacity }
    }

    /// Bytes of all files.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The number of files.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The file at a place between 0 and the number of files, in no order that means anything.
    pub(super) fn at(&self, place: usize) -> Option<FileKey> {
        self.entries.iter().nth(place).map(|(key, _)| *key)
    }

    /// Adds one user to a file; `false` where it is not here.
    pub(super) fn pin(&mut self, key: &FileKey) -> bool {
        self.entries.get_mut(key).is_some_and(|users| {
            *users += 1;
            true
        })
    }

    /// Adds a file with this many users. One that is here already gets them too.
    pub(super) fn insert(&mut self, key: FileKey, users: usize) {
        if let Some(present) = self.entries.get_mut(&key) {
            *present += users;
        } else {
            self.entries.put(key, users);
            self.bytes += footprint(key.digest.size());
        }
    }

    /// Takes one user from a file.
    pub(super) fn unpin(&mut self, key: &FileKey) {
        if let Some(users) = self.entries.peek_mut(key) {
            *users = users.saturating_sub(1);
        }
    }

    /// Forgets a file, in use or not.
    pub(super) fn remove(&mut self, key: &FileKey) {
        if self.entries.pop(key).is_some() {
            self.bytes -= footprint(key.digest.size());
        }
    }

    /// Gives up the least recently used of the files that nobody uses, until the rest fits.
    pub(super) fn evict(&mut self) -> Vec<FileKey> {
        self.shrink(self.capacity)
    }

    /// Gives up the least recently used of the files that nobody uses, until the rest holds `most` bytes.
    pub(super) fn shrink(&mut self, most: u64) -> Vec<FileKey> {
        let mut evicted = Vec::new();
        let mut in_use = 0;
        while self.bytes > most && in_use < self.entries.len() {
            let Some((key, users)) = self.entries.peek_lru().map(|(key, users)| (*key, *users)) else {
                break;
            };
            if users == 0 {
                self.remove(&key);
                evicted.push(key);
            } else {
                // To the front: a file in use is as good as just used, and is not looked at again.
                self.entries.promote(&key);
                in_use += 1;
            }
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use grid_core::{Digest, DigestFunction};
    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> FileKey {
        let digest = Digest::new(DigestFunction::Sha256, &[n; 32], u64::from(n) * 1000).unwrap();
        FileKey { digest, executable: false, mtime: None }
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut index = Index::new(3 * footprint(3000));
        for n in [1, 2, 3, 4] {
            index.insert(key(n), 0);
        }
        assert!(index.pin(&key(1)));
        index.unpin(&key(1));
        index.insert(key(5), 1);
        assert_eq!(index.evict()[0], key(2), "1 was used after it");
        assert!(index.pin(&key(5)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8),
        Pin(u8),
        Unpin(u8),
        Evict,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..20_u8).prop_map(Step::Insert),
            (1..20_u8).prop_map(Step::Pin),
            (1..20_u8).prop_map(Step::Unpin),
            Just(Step::Evict),
        ]
    }

    proptest! {
        #[test]
        fn files_in_use_stay_and_the_sum_is_right(steps in proptest::collection::vec(step(), 0..200)) {
            let mut index = Index::new(50_000);
            let mut model: HashMap<FileKey, usize> = HashMap::new();
            for step in steps {
                match step {
                    Step::Insert(n) => {
                        index.insert(key(n), 1);
                        *model.entry(key(n)).or_default() += 1;
                    }
                    Step::Pin(n) => {
                        let here = index.pin(&key(n));
                        prop_assert_eq!(here, model.contains_key(&key(n)));
                        model.entry(key(n)).and_modify(|users| *users += 1);
                    }
                    Step::Unpin(n) => {
                        index.unpin(&key(n));
                        model.entry(key(n)).and_modify(|users| *users = users.saturating_sub(1));
                    }
                    Step::Evict => {
                        for gone in index.evict() {
                            prop_assert_eq!(model.remove(&gone), Some(0), "only unused files go");
                        }
                        prop_assert!(index.bytes() <= 50_000 || model.values().all(|users| *users > 0));
                    }
                }
                let sum: u64 = model.keys().map(|k| footprint(k.digest.size())).sum();
                prop_assert_eq!((index.bytes(), index.len()), (sum, model.len()));
            }
        }
    }
}
