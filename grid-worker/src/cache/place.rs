//! How a cached file gets into an input root: as a hard link, or as a copy.
//!
//! A link costs nothing and can't be altered by a command that runs as another user. Where command and worker
//! are one user, where the build directory is on another file system, or where links are forbidden, files are
//! copied, as reflinks where the file system has them. Which it is, is decided once, at the start.

use std::ffi::OsStr;
use std::os::unix::fs::FileExt;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, Mode, OFlags, Stat, Timespec, Timestamps, copy_file_range, futimens, ioctl_ficlone, linkat,
    openat,
};
use rustix::io::{Errno, Result};
use rustix::process::geteuid;

use super::key::FileKey;

/// The way of all files of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Hard links.
    Link,
    /// Reflinks or copies.
    Copy,
}

/// Links `from`/`name` as `to`/`as_name`.
pub(super) fn link(from: impl AsFd, name: &str, to: impl AsFd, as_name: &OsStr) -> Result<()> {
    linkat(from, name, to, as_name, AtFlags::empty())
}

/// Makes `to`/`as_name` a file of its own with the content of `from`/`name`, and the mode and time of `key`.
pub(super) fn copy(
    from: impl AsFd,
    name: &str,
    to: impl AsFd,
    as_name: &OsStr,
    key: &FileKey,
) -> std::io::Result<()> {
    let source = openat(from, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let target = create(to, as_name, key.mode())?;
    if ioctl_ficlone(&target, &source).is_err() {
        copy_bytes(&source, &target, key.digest.size())?;
    }
    set_time(&target, key)?;
    Ok(())
}

/// A new file that only this call can write to, where its mode says so.
pub(super) fn create(directory: impl AsFd, name: &OsStr, mode: u32) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::from_raw_mode(mode))
}

/// Gives a written file the time of its key, if that has one.
pub(super) fn set_time(file: impl AsFd, key: &FileKey) -> Result<()> {
    if let Some((seconds, nanos)) = key.mtime {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
        futimens(&file, &Timestamps { last_access: time, last_modification: time })?;
    }
    Ok(())
}

/// Whether `stat` is of a file that was placed for an empty input: such files are no links.
pub(super) fn is_empty_input(stat: &Stat, key: &FileKey) -> bool {
    let time = key.mtime.is_none_or(|(seconds, nanos)| {
        stat.st_mtime == seconds && i64::try_from(stat.st_mtime_nsec) == Ok(nanos.into())
    });
    stat.st_size == 0 && stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o7777 == key.mode() && time
}

fn copy_bytes(source: &OwnedFd, target: &OwnedFd, size: u64) -> std::io::Result<()> {
    let mut left = size;
    while left > 0 {
        match copy_file_range(source, None, target, None, usize::try_from(left).unwrap_or(usize::MAX)) {
            Ok(0) => return Err(std::io::Error::other("the cached file is shorter than its digest says")),
            Ok(count) => left -= count as u64,
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if left == size => {
                return copy_by_hand(source, target, size);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// For file systems between which the kernel doesn't copy.
fn copy_by_hand(source: &OwnedFd, target: &OwnedFd, size: u64) -> std::io::Result<()> {
    let source = std::fs::File::from(source.try_clone()?);
    let target = std::fs::File::from(target.try_clone()?);
    let mut buffer = vec![0; 256 << 10];
    let mut offset = 0;
    while offset < size {
        match source.read_at(&mut buffer, offset)? {
            0 => return Err(std::io::Error::other("the cached file is shorter than its digest says")),
            count => {
                target.write_all_at(&buffer[..count], offset)?;
                offset += count as u64;
            }
        }
    }
    Ok(())
}
