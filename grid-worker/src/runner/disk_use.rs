//! [`DiskUse`]: what a command's own files take on disk, measured now and then.
//!
//! Nothing announces that a disk fills, and quotas need privileges; so the tree is walked. The more there is in it,
//! the longer a walk takes, and the rarer it gets: walking takes a tenth of the time at most. Neighbour:
//! `supervise`, which is enclosed by then: so the directories are held open from before.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::process::geteuid;

/// The least time between two walks.
const INTERVAL: Duration = Duration::from_millis(250);
/// The part of the time that is spent walking.
const SHARE: u32 = 10;
/// The deepest directory that is looked into: each is held open while those below it are walked.
const DEEPEST: usize = 200;
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Measures directories.
#[derive(Debug)]
pub(super) struct DiskUse {
    roots: Vec<OwnedFd>,
    next: Instant,
}

impl DiskUse {
    /// Opens the directories; what can't be opened can't be filled either.
    pub(super) fn of(roots: &[PathBuf]) -> Self {
        let open = |root: &PathBuf| openat(CWD, root, DIRECTORY, Mode::empty()).ok();
        Self { roots: roots.iter().filter_map(open).collect(), next: Instant::now() }
    }

    /// The bytes on disk of all files that this user owns; `None` where it is too early to look again.
    pub(super) fn measure(&mut self) -> Option<u64> {
        let start = Instant::now();
        if start < self.next {
            return None;
        }
        let own = geteuid().as_raw();
        let bytes = self.roots.iter().map(|root| bytes_below(root, own, 0)).sum();
        let now = Instant::now();
        self.next = now + INTERVAL.max((now - start) * SHARE);
        Some(bytes)
    }
}

fn bytes_below(directory: &OwnedFd, own: u32, depth: usize) -> u64 {
    let Ok(entries) = Dir::read_from(directory) else { return 0 };
    let mut bytes = 0;
    for entry in entries.flatten() {
        let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
        if name == "." || name == ".." {
            continue;
        }
        let Ok(stat) = statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if stat.st_uid == own {
            bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && depth < DEEPEST
            && let Ok(below) = openat(directory, &name, DIRECTORY, Mode::empty())
        {
            bytes += bytes_below(&below, own, depth + 1);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_at_any_level_and_not_too_often() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/file"), vec![1; 100_000]).unwrap();
        std::fs::write(dir.path().join("file"), vec![1; 50_000]).unwrap();
        let mut use_of = DiskUse::of(&[dir.path().to_owned(), dir.path().join("nowhere")]);
        assert!((150_000..200_000).contains(&use_of.measure().unwrap()));
        assert_eq!(use_of.measure(), None);
    }
}
