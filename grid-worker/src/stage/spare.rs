//! [`SpareTrees`]: input trees on disk that no action uses at the moment, for those that come.
//!
//! Most of an action's tree is that of an action before it. So a tree is not removed after its action: it is moved
//! to where no command gets at it, made again what was laid out, and waits. The next action takes the one that is
//! most like its own, and only what differs is linked and unlinked. Neighbours: `layout` does that, `execute` moves
//! the trees, `execute::janitor` removes those that are given up.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use grid_core::Digest;
use parking_lot::Mutex;

use super::laid::Layout;
use super::trees::InputTree;
use crate::cache::Pins;
use crate::execute::janitor::Janitor;

/// Smaller trees are laid out as fast as they are looked at.
const FEWEST_ENTRIES: u64 = 32;
/// The most entries of all spare trees together: what they take of memory and of inodes.
const MOST_ENTRIES: u64 = 400_000;
/// The most spare trees: each is compared with each tree that is wanted.
const MOST_TREES: usize = 32;

/// Cached files that stay, by the directory of a tree that needs them.
pub type TreePins = HashMap<Digest, Pins>;

/// A tree that no action uses.
#[derive(Debug)]
pub struct SpareTree {
    /// The action's directory that holds it.
    pub place: Place,
    /// How it was left.
    pub layout: Layout,
    /// What it needs of the cache.
    pub pins: TreePins,
}

/// A directory that is removed when this is dropped.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    janitor: Janitor,
}

impl Place {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Where the tree was moved to an action, there is nothing left here.
        if self.path.symlink_metadata().is_ok() {
            self.janitor.remove(std::mem::take(&mut self.path));
        }
    }
}

/// Bounded by number and size; the least recently used go first.
#[derive(Debug)]
pub struct SpareTrees {
    directory: PathBuf,
    janitor: Janitor,
    run: String,
    names: AtomicU64,
    generation: AtomicU64,
    /// From the most to the least recently used.
    trees: Mutex<VecDeque<SpareTree>>,
}

impl SpareTrees {
    /// Spare trees in `directory`, which is made where it is missing; what is left there of an earlier run goes.
    ///
    /// # Errors
    /// Where it can't be made or read.
    pub fn open(directory: PathBuf, janitor: Janitor) -> std::io::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        janitor.take_over(&directory)?;
        // No name is used twice: what is left of an earlier run may still have to be removed.
        let run = uuid::Uuid::new_v4().simple().to_string();
        Ok(Self {
            directory,
            janitor,
            run,
            names: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            trees: Mutex::default(),
        })
    }

    /// A place for a tree that becomes spare.
    #[must_use]
    pub fn place(&self) -> Place {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", self.run);
        Place { path: self.directory.join(name), janitor: self.janitor.clone() }
    }

    /// Whether a tree is worth to be kept.
    #[must_use]
    pub fn is_worth(tree: &InputTree) -> bool {
        (FEWEST_ENTRIES..=MOST_ENTRIES).contains(&tree.entries)
    }

    /// Takes the tree that is most like `wanted`, if more than half of it is.
    #[must_use]
    pub fn take(&self, wanted: &InputTree) -> Option<SpareTree> {
        if !Self::is_worth(wanted) {
            return None;
        }
        let mut trees = self.trees.lock();
        let same = trees.iter().position(|spare| spare.layout.tree.root == wanted.root);
        let likest = || {
            let likeness = trees.iter().map(|spare| wanted.likeness(&spare.layout.tree)).enumerate();
            // The first of equals: the one that was used last.
            let best = likeness.rev().max_by_key(|(_, likeness)| *likeness);
            best.filter(|(at, shared)| *shared * 2 > trees[*at].layout.tree.distinct()).map(|(at, _)| at)
        };
        let at = same.or_else(likest)?;
        trees.remove(at)
    }

    /// How often all trees were forgotten.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Forgets all trees, those in use too: a file that they hold is not what it was.
    pub fn forget(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        while self.give_up_one() {}
    }

    /// Keeps a tree that was staged in `generation`; others go where there are too many.
    pub fn keep(&self, spare: SpareTree, generation: u64) {
        let mut gone = Vec::new();
        let mut trees = self.trees.lock();
        // Asked under the lock: whoever forgets all clears them afterwards.
        if generation != self.generation() {
            return;
        }
        trees.push_front(spare);
        let entries = |trees: &VecDeque<SpareTree>| trees.iter().map(|t| t.layout.tree.entries).sum::<u64>();
        while trees.len() > MOST_TREES || entries(&trees) > MOST_ENTRIES {
            gone.extend(trees.pop_back());
        }
        drop(trees);
    }

    /// Gives up the tree that was not used for the longest time, and with it what it keeps in the cache; whether
    /// there was one.
    pub fn give_up_one(&self) -> bool {
        let gone = self.trees.lock().pop_back();
        gone.is_some()
    }
}
