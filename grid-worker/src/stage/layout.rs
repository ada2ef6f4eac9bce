//! Laying out an input tree: directories, links and files, as one user for another.
//!
//! Directories are writable for everybody, since the action runs as another user and may create files
//! anywhere; files are the cache's, read-only. Every step is relative to an open directory, never to a path
//! that somebody could change meanwhile. Blocking.

use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, Mode, OFlags, Timespec, Timestamps, fchmod, futimens, mkdirat, openat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::listing::Listing;
use super::trees::InputTree;
use crate::cache::FileCache;
use crate::error::WorkerError;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FOR_ALL: Mode = Mode::from_raw_mode(0o777);

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

struct Open {
    directory: OwnedFd,
    listing: Arc<Listing>,
    next: usize,
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

/// Lays out `tree` in `root`, an open directory, over what is there. All its files must be pinned in `cache`.
///
/// # Errors
/// [`WorkerError::Local`] naming the entry that failed.
pub fn lay_out(tree: &InputTree, root: OwnedFd, cache: &FileCache) -> Result<(), WorkerError> {
    let mut open = vec![enter(tree, root, &tree.root, cache)?];
    while let Some(last) = open.last_mut() {
        if let Some((name, child)) = last.listing.directories.get(last.next) {
            last.next += 1;
            let directory =
                merge_directory(&last.directory, name).map_err(|e| failed("directory", name, e))?;
            let entered = enter(tree, directory, child, cache)?;
            open.push(entered);
        } else if let Some(done) = open.pop() {
            // Last of all, for every entry that is made changes it.
            if let Some((tv_sec, nanos)) = done.listing.mtime {
                let time = Timespec { tv_sec, tv_nsec: nanos.into() };
                futimens(&done.directory, &Timestamps { last_access: time, last_modification: time })
                    .map_err(|error| failed("the time of a directory", "", error))?;
            }
        }
    }
    Ok(())
}

/// Places the files and links of a directory; its subdirectories come next.
fn enter(
    tree: &InputTree,
    directory: OwnedFd,
    digest: &grid_core::Digest,
    cache: &FileCache,
) -> Result<Open, WorkerError> {
    let listing = tree
        .directories
        .get(digest)
        .cloned()
        .ok_or_else(|| WorkerError::Internal(format!("directory {digest} was not fetched")))?;
    for (name, key) in &listing.files {
        over(&directory, name, || cache.place(key, &directory, name))
            .map_err(|error| failed("file", name, error))?;
    }
    for (name, target) in &listing.links {
        over(&directory, name, || Ok(symlinkat(&**target, &directory, &**name)?))
            .map_err(|error| failed("link", name, error))?;
    }
    Ok(Open { directory, listing, next: 0 })
}

fn failed(kind: &str, name: &str, error: impl Into<std::io::Error>) -> WorkerError {
    WorkerError::local(format!("staging {kind} {name:?}"), error)
}
