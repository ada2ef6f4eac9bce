//! After a command: what it made becomes readable and removable for the worker, who is another user.
//!
//! The command's umask and its own chmod calls decide the modes of what it makes, so that archives and
//! `unix_mode` come out as anywhere else; afterwards the runner, as the owner, only adds what the worker
//! needs: read on files, everything on directories. Neighbour: `service` calls it when nothing of the command
//! is alive any more. It never follows a symbolic link and never touches what it doesn't own.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, chmodat, fstat, openat, statat};
use rustix::io::Result;
use rustix::process::geteuid;
use rustix::time::{ClockId, clock_gettime};

const FOR_READERS: u32 = 0o444;
const FOR_REMOVERS: u32 = 0o777;
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A moment by the clock that change times are taken from, whose ticks are coarser than the machine's.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) struct FileTime(i64, i64);

impl FileTime {
    fn changed(stat: &Stat) -> Self {
        Self(stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0))
    }

    /// Now: nothing that changes from here on has an earlier change time.
    pub(super) fn now() -> Self {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        Self(now.tv_sec, now.tv_nsec)
    }
}

/// Opens up everything below `root` that this user owns.
///
/// The entries of a directory that hasn't changed after `since` are as the worker staged them; only its
/// subdirectories are looked at. A change time can't be set back by the command.
pub(super) fn settle(root: &std::path::Path, since: Option<FileTime>) -> Result<()> {
    let Ok(stat) = statat(CWD, root, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
    let mut walk = Walk { own: geteuid().as_raw(), since, first_error: None };
    if let Some(dir) = walk.open(CWD.as_fd(), root.as_os_str(), &stat) {
        walk.tree(dir);
    }
    walk.first_error.map_or(Ok(()), Err)
}

struct Walk {
    own: u32,
    since: Option<FileTime>,
    first_error: Option<rustix::io::Errno>,
}

impl Walk {
    /// Walks without recursion, so that no depth of directories can exhaust the stack. One directory is open
    /// for each level of the path at hand.
    fn tree(&mut self, root: (Dir, bool)) {
        let mut open = vec![root];
        while let Some((dir, changed)) = open.last_mut() {
            let Some(entry) = dir.read() else {
                open.pop();
                continue;
            };
            let Ok(entry) = entry else {
                open.pop();
                continue;
            };
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let kind = entry.file_type();
            if kind == FileType::Symlink || (!*changed && kind == FileType::RegularFile) {
                continue;
            }
            let Ok(fd) = dir.fd() else { continue };
            let Ok(stat) = statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let below = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => self.open(fd, name, &stat),
                FileType::RegularFile => {
                    self.add_mode(fd, name, &stat, FOR_READERS);
                    None
                }
                _ => None,
            };
            open.extend(below);
        }
    }

    /// Opens a directory, made accessible first where it is ours; says whether its entries may have changed.
    fn open(&mut self, parent: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> Option<(Dir, bool)> {
        self.add_mode(parent, name, stat, FOR_REMOVERS);
        let fd = openat(parent, name, DIRECTORY, Mode::empty()).map_err(|error| self.note(error)).ok()?;
        let changed = stat.st_uid == self.own
            || self.since.is_none_or(|since| fstat(&fd).is_ok_and(|s| FileTime::changed(&s) >= since));
        let dir = Dir::new(fd).map_err(|error| self.note(error)).ok()?;
        Some((dir, changed))
    }

    fn add_mode(&mut self, parent: BorrowedFd<'_>, name: &OsStr, stat: &Stat, bits: u32) {
        let mode = stat.st_mode & 0o7777;
        if stat.st_uid == self.own && mode & bits != bits {
            // Nothing of the command is alive to put a link in the entry's place.
            let result = chmodat(parent, name, Mode::from_raw_mode(mode | bits), AtFlags::empty());
            if let Err(error) = result {
                self.note(error);
            }
        }
    }

    fn note(&mut self, error: rustix::io::Errno) {
        self.first_error.get_or_insert(error);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, metadata, set_permissions, write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &std::path::Path) -> u32 {
        metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn opens_up_what_a_command_locked() {
        let dir = tempfile::tempdir().unwrap();
        let locked = dir.path().join("locked");
        create_dir(&locked).unwrap();
        let file = locked.join("file");
        write(&file, "x").unwrap();
        symlink("/nowhere", locked.join("link")).unwrap();
        set_permissions(&file, PermissionsExt::from_mode(0o100)).unwrap();
        set_permissions(&locked, PermissionsExt::from_mode(0o000)).unwrap();
        settle(dir.path(), None).unwrap();
        assert_eq!(mode(&locked), 0o777);
        assert_eq!(mode(&file), 0o544, "read is added, nothing is taken away");
    }

    #[test]
    fn what_a_link_names_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let file = outside.path().join("file");
        write(&file, "x").unwrap();
        set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        symlink(outside.path(), dir.path().join("dir")).unwrap();
        symlink(&file, dir.path().join("file")).unwrap();
        settle(dir.path(), None).unwrap();
        assert_eq!(mode(&file), 0o600);
    }
}
