//! [`Trees`]: fetches input trees and keeps their directories in memory, by digest.
//!
//! Most of an input tree is that of the action before, so only unknown directories are asked for: level by
//! level in batches, or all at once with GetTree where nothing below the root is known. Neighbour: `listing`
//! checks each directory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use grid_core::Digest;
use grid_proto::reapi;
use lru::LruCache;
use parking_lot::Mutex;
use prost::Message;

use super::listing::Listing;
use crate::cas::Cas;
use crate::cas::plan::plan;
use crate::error::WorkerError;

/// The most entries of one tree. Directories are shared by digest, so a few messages can describe more
/// entries than any disk holds.
const MOST_ENTRIES: u64 = 4_000_000;
/// The deepest tree; paths longer than 4,096 bytes can't be used anyway.
const MOST_LEVELS: usize = 1_024;

/// A whole input tree.
#[derive(Clone, Debug)]
pub struct InputTree {
    /// Its root.
    pub root: Digest,
    /// Every directory in it.
    pub directories: HashMap<Digest, Arc<Listing>>,
    /// Entries of all its directories, each as often as it occurs.
    pub entries: u64,
}

impl InputTree {
    /// Entries of the directories that another tree has too, each counted once.
    #[must_use]
    pub fn likeness(&self, other: &Self) -> u64 {
        let shared = self.directories.iter().filter(|(digest, _)| other.directories.contains_key(*digest));
        shared.map(|(_, listing)| listing.entries()).sum()
    }

    /// Whether the root has a directory of this name that isn't empty.
    #[must_use]
    pub fn holds_something_in(&self, name: &str) -> bool {
        let below = |digest: &Digest| self.directories.get(digest);
        let found = below(&self.root).and_then(|root| root.directories.iter().find(|(n, _)| **n == *name));
        found.and_then(|(_, digest)| below(digest)).is_some_and(|listing| listing.entries() > 1)
    }

    /// Entries of all directories, each counted once.
    #[must_use]
    pub fn distinct(&self) -> u64 {
        self.directories.values().map(|listing| listing.entries()).sum()
    }

    /// Refuses trees that are too large or too deep to lay out; gives the number of entries.
    fn check(&self) -> Result<u64, WorkerError> {
        let mut known: HashMap<Digest, (u64, usize)> = HashMap::new();
        // Each directory is entered twice: first its children are put before it, then it is summed up.
        let mut open = vec![(self.root, false)];
        while let Some((digest, children_done)) = open.pop() {
            if known.contains_key(&digest) {
                continue;
            }
            let Some(listing) = self.directories.get(&digest) else { continue };
            if children_done {
                let below = listing.directories.iter().filter_map(|(_, child)| known.get(child));
                let (entries, levels) = below
                    .fold((listing.entries(), 0), |(sum, depth), (entries, levels)| {
                        (sum.saturating_add(*entries), depth.max(*levels))
                    });
                if entries > MOST_ENTRIES || levels >= MOST_LEVELS {
                    return Err(WorkerError::Invalid(format!(
                        "the input root has more than {MOST_ENTRIES} entries or {MOST_LEVELS} levels"
                    )));
                }
                known.insert(digest, (entries, levels + 1));
            } else {
                open.push((digest, true));
                open.extend(listing.directories.iter().map(|(_, child)| (*child, false)));
            }
        }
        Ok(known.get(&self.root).map_or(0, |(entries, _)| *entries))
    }
}

/// Fetches input trees.
#[derive(Debug)]
pub struct Trees {
    cas: Cas,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    listings: LruCache<Digest, Arc<Listing>>,
    weight: usize,
    capacity: usize,
}

impl Known {
    fn add(&mut self, digest: Digest, listing: Arc<Listing>) {
        self.weight += listing.weight();
        if let Some(old) = self.listings.put(digest, listing) {
            self.weight -= old.weight();
        }
        while self.weight > self.capacity {
            let Some((_, old)) = self.listings.pop_lru() else { break };
            self.weight -= old.weight();
        }
    }
}

impl Trees {
    /// Keeps directories of up to `capacity` bytes in memory.
    #[must_use]
    pub fn new(cas: Cas, capacity: usize) -> Self {
        Self { cas, known: Mutex::new(Known { listings: LruCache::unbounded(), weight: 0, capacity }) }
    }

    /// The tree of `root`.
    ///
    /// # Errors
    /// [`WorkerError::Missing`] with the directories of the first level that lacks some,
    /// [`WorkerError::Invalid`] for unsound directories, and the errors of the CAS.
    pub async fn fetch(&self, root: Digest) -> Result<InputTree, WorkerError> {
        let mut tree = InputTree { root, directories: HashMap::new(), entries: 0 };
        let mut level = vec![root];
        let mut depth = 0;
        while !level.is_empty() {
            let unknown = self.take_known(&level, &mut tree);
            if depth == 1 && unknown.len() == level.len() && unknown.len() > 1 {
                self.try_whole_tree(&root).await;
            }
            let unknown = if depth == 1 { self.take_known(&unknown, &mut tree) } else { unknown };
            self.fetch_level(&unknown, &mut tree).await?;
            let next: HashSet<Digest> = level
                .iter()
                .filter_map(|digest| tree.directories.get(digest))
                .flat_map(|listing| listing.directories.iter().map(|(_, child)| *child))
                .filter(|child| !tree.directories.contains_key(child))
                .collect();
            level = next.into_iter().collect();
            depth += 1;
            if depth > MOST_LEVELS {
                break;
            }
        }
        tree.entries = tree.check()?;
        Ok(tree)
    }

    /// Puts what is known into the tree and gives the rest.
    fn take_known(&self, digests: &[Digest], tree: &mut InputTree) -> Vec<Digest> {
        let mut known = self.known.lock();
        let mut unknown = Vec::new();
        for digest in digests {
            if let Some(listing) = known.listings.get(digest) {
                tree.directories.insert(*digest, listing.clone());
            } else if digest.is_empty_blob() {
                tree.directories.insert(*digest, Arc::default());
            } else {
                unknown.push(*digest);
            }
        }
        unknown
    }

    /// One call instead of one a level. It may fail or be incomplete: the levels are asked for afterwards, and
    /// tell exactly what is missing.
    async fn try_whole_tree(&self, root: &Digest) {
        let directories = match self.cas.get_tree(root).await {
            Ok(directories) => directories,
            Err(status) => {
                tracing::debug!(%status, "GetTree failed; asking level by level");
                return;
            }
        };
        for content in directories {
            let digest = Digest::of(root.function(), &content);
            let Ok(message) = reapi::Directory::decode(content) else { continue };
            if let Ok(listing) = Listing::new(&digest, message) {
                self.known.lock().add(digest, Arc::new(listing));
            }
        }
    }

    async fn fetch_level(&self, unknown: &[Digest], tree: &mut InputTree) -> Result<(), WorkerError> {
        if unknown.is_empty() {
            return Ok(());
        }
        let plan = plan(unknown.iter().copied(), self.cas.capabilities().await?.batch_limit);
        let batches =
            futures::future::join_all(plan.batches.iter().map(|b| self.cas.read_batch(b).boxed())).await;
        let mut missing = Vec::new();
        for result in batches {
            match result {
                Ok(contents) => {
                    for (digest, content) in contents {
                        self.add(digest, content, tree)?;
                    }
                }
                Err(WorkerError::Missing(digests)) => missing.extend(digests),
                Err(error) => return Err(error),
            }
        }
        for digest in plan.streams {
            match self.cas.read_whole(&digest).await {
                Ok(content) => self.add(digest, content, tree)?,
                Err(WorkerError::Missing(digests)) => missing.extend(digests),
                Err(error) => return Err(error),
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(WorkerError::Missing(missing)) }
    }

    fn add(&self, digest: Digest, content: Bytes, tree: &mut InputTree) -> Result<(), WorkerError> {
        let message = reapi::Directory::decode(content)
            .map_err(|error| WorkerError::Invalid(format!("{digest} is no Directory: {error}")))?;
        let listing = Arc::new(Listing::new(&digest, message)?);
        self.known.lock().add(digest, listing.clone());
        tree.directories.insert(digest, listing);
        Ok(())
    }
}
