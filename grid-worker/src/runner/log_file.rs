//! [`LogFile`]: standard output or standard error of a command, as a file that stays in reach.
//!
//! It is held by its directory and name: the supervisor may be enclosed when it looks at it again, and the
//! command may have put something else in its place. Neighbour: `supervise`.

use std::ffi::OsString;
use std::fs::File;
use std::io;
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

    /// Cuts it to what is allowed: much can be written between two looks.
    pub(super) fn shorten(&self, most: u64) {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // The worker reads what there is, cut or not.
        if self.length() > most
            && let Ok(file) = openat(&self.directory, &self.name, flags, Mode::empty())
            && fstat(&file).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile)
        {
            let _ = ftruncate(&file, most);
        }
    }
}
