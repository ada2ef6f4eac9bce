//! [`Layout`]: an input tree as it was laid out, to tell later what of it is still so.
//!
//! A command can't change the files of its inputs, which are another user's and read-only; all it can do is to
//! change which entries a directory has. That moves the directory's change time, which nobody can set back. So
//! one look at each directory tells which of them are as they were left. Neighbour: `layout` makes and mends.

use std::sync::Arc;

use grid_core::Digest;
use rustix::fs::{FileType, Stat};
use rustix::process::geteuid;

use super::layout::FOR_ALL;
use super::trees::InputTree;
use crate::file_time::FileTime;

/// A tree on disk.
#[derive(Debug)]
pub struct Layout {
    /// What was laid out.
    pub tree: Arc<InputTree>,
    /// How its directories were left.
    pub(super) root: Laid,
    /// When that was noted. What changed at this moment or later may have changed after it was looked at.
    pub(super) noted: FileTime,
    /// Names in its root that are none of the tree's and stay when it becomes another one.
    pub kept: &'static [&'static str],
}

/// A directory as it was left.
#[derive(Debug)]
pub(super) struct Laid {
    pub(super) digest: Digest,
    pub(super) stamp: Stamp,
    /// Its subdirectories, in the order of its listing.
    pub(super) below: Vec<Self>,
}

/// What tells that a directory is the same and unchanged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    changed: FileTime,
}

impl Stamp {
    /// That of a directory that nobody knows: it never stands.
    pub(super) const UNKNOWN: Self = Self { device: 0, inode: 0, changed: FileTime::NEVER };

    pub(super) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino, changed: FileTime::changed(stat) }
    }

    /// Whether the directory that `stat` describes holds what it held when this was noted at `noted`.
    pub(super) fn stands(self, stat: &Stat, noted: FileTime) -> bool {
        self.changed.is_before(noted) && self == Self::of(stat)
    }
}

/// Whether a directory is one of those that are made for inputs: a command's own could be locked by it later.
pub(super) fn is_ours(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        && stat.st_uid == geteuid().as_raw()
        && stat.st_mode & 0o7777 == FOR_ALL.as_raw_mode()
}
