//! After a command: what it made becomes readable and removable for the worker, who is another user.
//!
//! The command's umask and its own chmod calls decide the modes of what it makes, so that archives and
//! `unix_mode` come out as anywhere else; afterwards the runner, as the owner, adds what the worker needs:
//! read on files, everything on directories, which lose their sticky bit; what they were is kept beside (`made_mode`). Neighbour: `service` calls it when
//! nothing of the command is alive any more. It never follows a symbolic link and never touches what it
//! doesn't own.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, chmodat, fstat, openat, statat};
use rustix::io::{Errno, Result};

use crate::file_time::FileTime;
use crate::made_mode;

const FOR_READERS: u32 = 0o444;
const FOR_REMOVERS: u32 = 0o777;
const STICKY: u32 = 0o1000;
const FOR_OWNER: u32 = 0o600;
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens up everything below `root` that `owner` owns, who is this user unless this user is root.
///
/// The entries of a directory that hasn't changed after `since` are as the worker staged them; only its
/// subdirectories are looked at. A change time can't be set back by the command. One directory is open at a
/// time, for directories can be nested deeper than files can be opened.
pub(super) fn settle(root: &std::path::Path, owner: u32, since: Option<FileTime>) -> Result<()> {
    let Ok(stat) = statat(CWD, root, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
    let mut walk = Walk { own: owner, since, first_error: None };
    if let Some((directory, pending)) = walk.enter(CWD, root.as_os_str(), &stat) {
        walk.tree(directory, pending);
    }
    walk.first_error.map_or(Ok(()), Err)
}

struct Walk {
    own: u32,
    since: Option<FileTime>,
    first_error: Option<Errno>,
}

impl Walk {
    fn tree(&mut self, mut directory: OwnedFd, mut pending: Vec<OsString>) {
        let mut above = Vec::new();
        loop {
            if let Some(name) = pending.pop() {
                let Ok(stat) = statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
                if let Some((next, below)) = self.enter(directory.as_fd(), &name, &stat) {
                    above.push(std::mem::replace(&mut pending, below));
                    directory = next;
                }
            } else if let Some(rest) = above.pop() {
                match openat(&directory, "..", DIRECTORY, Mode::empty()) {
                    Ok(parent) => (directory, pending) = (parent, rest),
                    Err(error) => return self.note(error),
                }
            } else {
                return;
            }
        }
    }

    /// Opens a directory, made accessible first where it is ours, and opens up its files; gives it with the
    /// names of its subdirectories.
    fn enter(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        stat: &Stat,
    ) -> Option<(OwnedFd, Vec<OsString>)> {
        let untouched = self.since.is_some_and(|since| FileTime::changed(stat).is_before(since));
        // Two links: its name and its own `.`, so there is no directory in it.
        if untouched && stat.st_uid != self.own && stat.st_nlink == 2 {
            return None;
        }
        self.add_mode(parent, name, stat, FOR_REMOVERS);
        let entered = openat(parent, name, DIRECTORY, Mode::empty())
            .and_then(|directory| Ok((Dir::read_from(&directory)?, directory)));
        let (entries, directory) = entered.map_err(|error| self.note(error)).ok()?;
        let changed = stat.st_uid == self.own
            || self
                .since
                .is_none_or(|since| !fstat(&directory).is_ok_and(|s| FileTime::changed(&s).is_before(since)));
        let mut below = Vec::new();
        for entry in entries.flatten() {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let kind = entry.file_type();
            let staged = !changed && kind == FileType::RegularFile;
            if name == "." || name == ".." || kind == FileType::Symlink || staged {
                continue;
            }
            let Ok(stat) = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => below.push(name.to_owned()),
                FileType::RegularFile => self.add_mode(directory.as_fd(), name, &stat, FOR_READERS),
                _ => {}
            }
        }
        Some((directory, below))
    }

    fn add_mode(&mut self, parent: BorrowedFd<'_>, name: &OsStr, stat: &Stat, bits: u32) {
        let mode = stat.st_mode & 0o7777;
        // In a sticky directory only the owners remove anything, and the worker is none.
        let wanted = (mode | bits) & !STICKY;
        if stat.st_uid == self.own
            && mode != wanted
            && let Err(error) = open_up(parent, name, mode, wanted)
        {
            self.note(error);
        }
    }

    fn note(&mut self, error: Errno) {
        self.first_error.get_or_insert(error);
    }
}

/// Nothing of the command is alive to put a link in the entry's place.
fn open_up(parent: BorrowedFd<'_>, name: &OsStr, mode: u32, wanted: u32) -> Result<()> {
    let change = |mode: u32| chmodat(parent, name, Mode::from_raw_mode(mode), AtFlags::empty());
    // Only what its owner may write to takes an attribute.
    change(wanted | FOR_OWNER)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if let Ok(entry) = openat(parent, name, flags, Mode::empty()) {
        made_mode::keep(entry, mode);
    }
    if wanted & FOR_OWNER == FOR_OWNER { Ok(()) } else { change(wanted) }
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
        settle(dir.path(), rustix::process::geteuid().as_raw(), None).unwrap();
        assert_eq!(mode(&locked), 0o777);
        assert_eq!(mode(&file), 0o544, "read is added, nothing is taken away");
        for (path, made) in [(&locked, 0o000), (&file, 0o100)] {
            let now = mode(path);
            assert_eq!(made_mode::of(std::fs::File::open(path).unwrap().as_fd(), now), made, "{path:?}");
        }
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
        settle(dir.path(), rustix::process::geteuid().as_raw(), None).unwrap();
        assert_eq!(mode(&file), 0o600);
    }
}
