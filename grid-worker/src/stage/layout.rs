//! Laying out an input tree: directories, links and files, as one user for another.
//!
//! Directories are writable for everybody, since the action runs as another user and may create files
//! anywhere; files are the cache's, read-only. Every step is relative to an open directory, never to a path
//! that somebody could change meanwhile. A tree that is there already is made the wanted one: directories that
//! are as they were left cost one look, of others only what differs is touched. Blocking.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;

use grid_core::Digest;
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, Mode, OFlags, Timespec, Timestamps, fchmod, fstat, futimens, mkdirat, openat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use super::entries::{mend, observe, of_listing};
use super::laid::{Laid, Layout, Stamp};
use super::listing::Listing;
use super::trees::InputTree;
use crate::cache::FileCache;
use crate::error::WorkerError;
use crate::file_time::FileTime;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
pub(super) const FOR_ALL: Mode = Mode::from_raw_mode(0o777);

/// Makes directory `name` in `parent`, writable for the action whatever this process's umask is.
///
/// # Errors
/// The system's own.
pub fn make_directory(parent: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    mkdirat(parent, name, FOR_ALL)?;
    let directory = openat(parent, name, DIRECTORY, Mode::empty())?;
    fchmod(&directory, FOR_ALL)?;
    Ok(directory)
}

/// As [`make_directory`]; one that is there already is taken as it is.
fn merge_directory(parent: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    match make_directory(parent, name) {
        Err(Errno::EXIST) => openat(parent, name, DIRECTORY, Mode::empty()),
        made => made,
    }
}

/// Does `place`, a second time where something of an earlier layer was in the way: what comes later counts.
fn over(directory: &OwnedFd, name: &str, place: impl Fn() -> std::io::Result<()>) -> std::io::Result<()> {
    match place() {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            unlinkat(directory, name, AtFlags::empty())?;
            place()
        }
        placed => placed,
    }
}

/// Lays out `tree` in `root`, an open directory. All its files must be pinned in `cache`. With `before`, what was
/// laid out there, nothing but `tree` and what the root has of its `kept` is there afterwards; without it, what is there stays, as a layer beneath.
///
/// # Errors
/// [`WorkerError::Local`] naming the entry that failed.
pub fn lay_out(
    tree: &Arc<InputTree>,
    root: OwnedFd,
    before: Option<Layout>,
    cache: &FileCache,
) -> Result<Layout, WorkerError> {
    let kept = before.as_ref().map_or(&[][..], |before| before.kept);
    let (old, laid) = match before {
        Some(Layout { tree, root, noted, .. }) => (Some((tree, noted)), Some(root)),
        None => (None, None),
    };
    let work = Work { tree, old, kept, cache };
    let mut open = vec![work.enter(root, tree.root, laid, "")?];
    loop {
        let Some(last) = open.last_mut() else {
            return Err(WorkerError::Internal("a tree without a root".to_owned()));
        };
        if let Some((name, child)) = last.listing.directories.get(last.below.len()).cloned() {
            if let Some(entered) = work.descend(last, &name, child)? {
                open.push(entered);
            }
        } else if let Some(done) = open.pop() {
            let laid = done.leave().map_err(|error| failed("the time of a directory", "", error))?;
            match open.last_mut() {
                Some(parent) => parent.below.push(laid),
                None => return Ok(Layout { tree: tree.clone(), root: laid, noted: FileTime::now(), kept }),
            }
        }
    }
}

/// A tree that becomes another one.
struct Work<'a> {
    tree: &'a InputTree,
    /// What was laid out before, and when that was noted.
    old: Option<(Arc<InputTree>, FileTime)>,
    /// Names in the root that are left alone.
    kept: &'static [&'static str],
    cache: &'a FileCache,
}

/// A directory that is being made.
struct Open {
    directory: OwnedFd,
    digest: Digest,
    listing: Arc<Listing>,
    /// What its subdirectories were, by name; `None` where it is new, and so are they.
    old: Option<HashMap<Box<str>, Laid>>,
    below: Vec<Laid>,
    touched: bool,
}

impl Open {
    /// Last of all come times, for every entry that is made changes them.
    fn leave(self) -> rustix::io::Result<Laid> {
        if let (true, Some((tv_sec, nanos))) = (self.touched, self.listing.mtime) {
            let time = Timespec { tv_sec, tv_nsec: nanos.into() };
            futimens(&self.directory, &Timestamps { last_access: time, last_modification: time })?;
        }
        Ok(Laid { digest: self.digest, stamp: Stamp::of(&fstat(&self.directory)?), below: self.below })
    }
}

impl Work<'_> {
    /// Makes a subdirectory; gives it where there is more to do in it.
    fn descend(&self, parent: &mut Open, name: &str, child: Digest) -> Result<Option<Open>, WorkerError> {
        let in_error = |error| failed("directory", name, error);
        let Some(known) = &mut parent.old else {
            let directory = merge_directory(&parent.directory, name).map_err(in_error)?;
            return self.enter(directory, child, None, name).map(Some);
        };
        let laid = known.remove(name);
        match (statat(&parent.directory, name, AtFlags::SYMLINK_NOFOLLOW), laid) {
            (Ok(stat), Some(laid)) if laid.below.is_empty() && self.stands(&laid, child, &stat) => {
                parent.below.push(laid);
                Ok(None)
            }
            (Ok(_), laid) => {
                let directory =
                    openat(&parent.directory, name, DIRECTORY, Mode::empty()).map_err(in_error)?;
                // One that nobody knows is looked at as one that has changed.
                let unknown = || Laid { digest: child, stamp: Stamp::UNKNOWN, below: Vec::new() };
                self.enter(directory, child, Some(laid.unwrap_or_else(unknown)), name).map(Some)
            }
            (Err(Errno::NOENT), _) => {
                parent.touched = true;
                let directory = make_directory(&parent.directory, name).map_err(in_error)?;
                self.enter(directory, child, None, name).map(Some)
            }
            (Err(error), _) => Err(in_error(error)),
        }
    }

    /// Whether a directory is `digest` already, its subdirectories left aside.
    fn stands(&self, laid: &Laid, digest: Digest, stat: &rustix::fs::Stat) -> bool {
        let noted = self.old.as_ref().map(|(_, noted)| *noted);
        laid.digest == digest && noted.is_some_and(|noted| laid.stamp.stands(stat, noted))
    }

    /// Places the files and links of a directory; its subdirectories come next.
    fn enter(
        &self,
        directory: OwnedFd,
        digest: Digest,
        laid: Option<Laid>,
        name: &str,
    ) -> Result<Open, WorkerError> {
        let listing = listing(self.tree, &digest)?;
        let Some(laid) = laid else {
            self.fill(&directory, &listing)?;
            return Ok(Open { directory, digest, listing, old: None, below: Vec::new(), touched: true });
        };
        let kept = if name.is_empty() { self.kept } else { &[] };
        let touched = self.renew(&directory, &laid, digest, &listing, kept);
        let touched = touched.map_err(|error| failed("directory", name, error))?;
        let old = self.below(laid);
        Ok(Open { directory, digest, listing, old: Some(old), below: Vec::new(), touched })
    }

    fn fill(&self, directory: &OwnedFd, listing: &Listing) -> Result<(), WorkerError> {
        for (name, key) in &listing.files {
            over(directory, name, || self.cache.place(key, directory, OsStr::new(&**name)))
                .map_err(|error| failed("file", name, error))?;
        }
        for (name, target) in &listing.links {
            over(directory, name, || Ok(symlinkat(&**target, directory, &**name)?))
                .map_err(|error| failed("link", name, error))?;
        }
        Ok(())
    }

    /// Makes a directory that is there what it is to be; whether there was a reason to.
    fn renew(
        &self,
        directory: &OwnedFd,
        laid: &Laid,
        digest: Digest,
        listing: &Listing,
        kept: &[&str],
    ) -> std::io::Result<bool> {
        let stat = fstat(directory)?;
        if self.stands(laid, digest, &stat) {
            return Ok(false);
        }
        let wanted = of_listing(listing);
        let known = self.old.as_ref().filter(|(_, noted)| laid.stamp.stands(&stat, *noted));
        let known = known.and_then(|(tree, _)| tree.directories.get(&laid.digest));
        let mut present = match known {
            Some(known) => of_listing(known),
            None => observe(directory, &wanted, self.cache)?,
        };
        present.retain(|name, _| !kept.iter().any(|kept| name == *kept));
        mend(directory, &present, &wanted, self.cache)?;
        // Also where no entry differs: its time may.
        Ok(true)
    }

    /// What was below a directory, by name.
    fn below(&self, laid: Laid) -> HashMap<Box<str>, Laid> {
        let known = self.old.as_ref().and_then(|(tree, _)| tree.directories.get(&laid.digest));
        let names = known.into_iter().flat_map(|listing| listing.directories.iter());
        names.map(|(name, _)| name.clone()).zip(laid.below).collect()
    }
}

fn listing(tree: &InputTree, digest: &Digest) -> Result<Arc<Listing>, WorkerError> {
    let found = tree.directories.get(digest).cloned();
    found.ok_or_else(|| WorkerError::Internal(format!("directory {digest} was not fetched")))
}

fn failed(kind: &str, name: &str, error: impl Into<std::io::Error>) -> WorkerError {
    WorkerError::local(format!("staging {kind} {name:?}"), error)
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
