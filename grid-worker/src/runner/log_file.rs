//! [`LogFile`]: standard output or standard error of a command, as a file that stays in reach.
//!
//! It is held by its directory and name: the supervisor may be enclosed when it looks at it again, and the
//! command may have put something else in its place. Neighbour: `supervise`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, ftruncate, openat, statat};

/// A log by its place.
#[derive(Debug)]
pub(super) struct LogFile {
    directory: OwnedFd,
    name: OsString,
}

impl LogFile {
    /// Creates the file; gives it open for the command, and its place.
    pub(super) fn create(path: &Path) -> io::Result<(File, Self)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::other("it has no name"));
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let log = Self { directory: openat(CWD, parent, flags, Mode::empty())?, name: name.to_owned() };
        // Appending, so that a command that opens /dev/stderr itself doesn't overwrite what is there.
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&log.directory, &log.name, flags, Mode::from_raw_mode(0o644))?;
        Ok((file.into(), log))
    }

    /// How long it is.
    pub(super) fn length(&self) -> u64 {
        let stat = statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        stat.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Adds a line of the runner's own at its end. What can't be written is lost: the command's end says enough.
    pub(super) fn add(&self, line: &str) {
        if let Some(mut file) = self.reopen(OFlags::APPEND) {
            let _ = file.write_all(line.as_bytes());
        }
    }

    /// Cuts it to what is allowed: much can be written between two looks.
    pub(super) fn shorten(&self, most: u64) {
        // The worker reads what there is, cut or not.
        if self.length() > most
            && let Some(file) = self.reopen(OFlags::empty())
        {
            let _ = ftruncate(&file, most);
        }
    }

    /// The file for writing, unless something else is in its place.
    fn reopen(&self, more: OFlags) -> Option<File> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
        let file = openat(&self.directory, &self.name, flags, Mode::empty()).ok()?;
        let regular = fstat(&file).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
        regular.then(|| file.into())
    }
}
