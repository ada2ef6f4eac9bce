//! Removes a directory tree of any depth. Blocking.
//!
//! One directory is open at a time, for a command can nest directories deeper than files can be opened. The
//! way back up is checked against what the parent was: something of a killed command may still be moving
//! directories about, and then nothing else must be removed instead. Neighbours: `execute::janitor` tries again,
//! `stage` clears what a command left in a tree.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, statat, unlinkat};
use rustix::io::{Errno, Result};

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory above the open one.
struct Above {
    identity: (u64, u64),
    /// The name of the directory below that is being emptied.
    child: OsString,
    /// Its other subdirectories.
    pending: Vec<OsString>,
}

/// Removes `path`, relative to `at`, and all below it; links are removed, not followed.
///
/// # Errors
/// The first obstacle; what was removed until then is gone.
pub(crate) fn remove_tree(at: impl AsFd, path: &Path) -> Result<()> {
    let at = at.as_fd();
    let mut open = match openat(at, path, DIRECTORY, Mode::empty()) {
        Ok(open) => open,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return unlinkat(at, path, AtFlags::empty()),
        Err(error) => return Err(error),
    };
    let mut above: Vec<Above> = Vec::new();
    let mut pending = remove_files(&open)?;
    loop {
        if let Some(child) = pending.pop() {
            let next = openat(&open, &child, DIRECTORY, Mode::empty())?;
            above.push(Above { identity: identity(&open)?, child, pending });
            open = next;
            pending = remove_files(&open)?;
        } else if let Some(parent) = above.pop() {
            open = openat(&open, "..", DIRECTORY, Mode::empty())?;
            if identity(&open)? != parent.identity {
                return Err(Errno::BUSY);
            }
            unlinkat(&open, &parent.child, AtFlags::REMOVEDIR)?;
            pending = parent.pending;
        } else {
            return unlinkat(at, path, AtFlags::REMOVEDIR);
        }
    }
}

/// Removes all entries that are no directories; gives the names of those that are.
fn remove_files(directory: &OwnedFd) -> Result<Vec<OsString>> {
    let mut directories = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems don't tell.
            FileType::Unknown => {
                FileType::from_raw_mode(statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode)
            }
            kind => kind,
        };
        if kind == FileType::Directory {
            directories.push(name);
        } else {
            unlinkat(directory, &name, AtFlags::empty())?;
        }
    }
    Ok(directories)
}

fn identity(directory: &OwnedFd) -> Result<(u64, u64)> {
    fstat(directory).map(|stat| (stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use rustix::fs::CWD;

    use super::*;

    #[test]
    fn any_depth_goes_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("file"), "x").unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        let mut open = openat(CWD, &tree, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3_000 {
            rustix::fs::mkdirat(&open, "d", Mode::from_raw_mode(0o700)).unwrap();
            rustix::fs::symlinkat(&outside, &open, "link").unwrap();
            open = openat(&open, "d", DIRECTORY, Mode::empty()).unwrap();
        }
        remove_tree(CWD, &tree).unwrap();
        assert!(!tree.exists() && outside.join("file").exists());
        remove_tree(CWD, &tree).unwrap();
        std::os::unix::fs::symlink(&outside, &tree).unwrap();
        remove_tree(CWD, &tree).unwrap();
        assert!(tree.symlink_metadata().is_err() && outside.join("file").exists());
    }
}
