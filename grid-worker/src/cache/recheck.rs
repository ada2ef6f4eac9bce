//! Cached files that are not what they were any more: found, and dropped.
//!
//! What is fetched is checked before it is kept, but disks forget: a machine that went down without a word may
//! bring back files of the right length that are full of zeros, and bits rot. So a cache of another boot is read
//! as a whole when it is opened, and one file after the other, chosen at random, is read again meanwhile.
//! Neighbour: `file_cache` calls the first, `health` the second.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use grid_core::Hasher;
use rand::RngExt;
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags, openat};

use super::file_cache::FileCache;
use super::key::FileKey;

/// Changes with every boot of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const BUFFER: usize = 256 << 10;

/// Whether the content of a cached file is its digest's. Blocking.
///
/// # Errors
/// Where it can't be read.
pub(super) fn is_sound(directory: impl AsFd, key: &FileKey) -> std::io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(directory, key.file_name(), flags, Mode::empty())?);
    let mut hasher = Hasher::new(key.digest.function());
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish() == key.digest),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// The boot under which the cache in `root` was last opened, and that of now.
#[derive(Debug)]
pub(super) struct Boot {
    now: Option<String>,
    /// Whether all that was written is still there.
    pub(super) is_same: bool,
}

impl Boot {
    pub(super) fn of(root: &Path) -> Self {
        let now = std::fs::read_to_string(BOOT_ID).ok();
        let last = std::fs::read_to_string(root.join("boot")).ok();
        Self { is_same: now.is_some() && now == last, now }
    }

    /// Notes that what is in `root` was read under this boot.
    pub(super) fn note(&self, root: &Path) -> std::io::Result<()> {
        match &self.now {
            Some(now) if !self.is_same => std::fs::write(root.join("boot"), now),
            _ => Ok(()),
        }
    }
}

impl FileCache {
    /// Reads a cached file, chosen at random, and drops it where its content isn't its digest's or can't be
    /// read; gives its name then. Blocking.
    pub fn recheck(&self) -> Option<String> {
        let count = self.usage().1;
        let key = (count > 0).then(|| self.any(rand::rng().random_range(0..count))).flatten()?;
        match is_sound(&self.shards[key.shard()], &key) {
            Ok(true) => return None,
            Ok(false) => {}
            // It was given up meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => tracing::warn!(%error, file = key.file_name(), "can't read a cached file"),
        }
        self.drop_file(&key);
        Some(key.file_name())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use grid_core::{Digest, DigestFunction, InstanceName};

    use super::*;
    use crate::cache::Placement;
    use crate::cas::Cas;
    use crate::retry::Retry;

    fn open(root: &Path) -> Arc<FileCache> {
        let retry = Retry { budget: std::time::Duration::ZERO };
        let cas = Cas::new(Vec::new(), InstanceName::new("").unwrap(), retry, false);
        Arc::new(FileCache::open(root, 1 << 20, Placement::Copy, cas).unwrap())
    }

    fn put(root: &Path, said: &[u8], content: &[u8]) {
        let digest = Digest::of(DigestFunction::Sha256, said);
        let key = FileKey { digest, executable: false, mtime: None };
        let path = root.join(format!("files/{:02x}", key.shard())).join(key.file_name());
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o444)).unwrap();
    }

    #[test]
    fn what_rotted_is_dropped_and_what_did_not_stays() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        put(dir.path(), b"rotten", b"\0\0\0\0\0\0");
        assert_eq!(open(dir.path()).usage().1, 1, "the same boot is trusted");
        let cache = open(dir.path());
        assert!(cache.recheck().is_some());
        assert_eq!(cache.usage(), (0, 0));
        put(dir.path(), b"sound", b"sound");
        let cache = open(dir.path());
        assert_eq!((cache.recheck(), cache.usage().1), (None, 1));
    }

    #[test]
    fn a_cache_of_another_boot_is_read_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        put(dir.path(), b"rotten", b"\0\0\0\0\0\0");
        put(dir.path(), b"sound", b"sound");
        std::fs::write(dir.path().join("boot"), "another").unwrap();
        let cache = open(dir.path());
        assert_eq!((cache.usage().1, cache.recheck()), (1, None));
        assert_ne!(std::fs::read_to_string(dir.path().join("boot")).unwrap(), "another");
    }
}
