//! [`Partial`]: a file of the cache while it is being written.
//!
//! It lies apart from the cached files, and goes away with its value unless it is kept: so neither a failure
//! nor an action that was given up leaves anything behind.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use rustix::fs::{AtFlags, renameat, unlinkat};

use super::file_cache::FileCache;
use super::key::FileKey;
use super::place;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Partial {
    cache: Arc<FileCache>,
    name: String,
    file: File,
    kept: bool,
}

impl Partial {
    pub(super) fn create(cache: Arc<FileCache>, mode: u32) -> std::io::Result<Self> {
        let name = cache.next_name();
        let file = place::create(&cache.partial, name.as_ref(), mode)?.into();
        Ok(Self { cache, name, file, kept: false })
    }

    /// Gives the file its time and its place. It is closed then: nothing that can be executed stays open for
    /// writing.
    pub(super) fn keep(mut self, key: &FileKey) -> std::io::Result<()> {
        place::set_time(&self.file, key)?;
        let shard = &self.cache.shards[key.shard()];
        renameat(&self.cache.partial, &self.name, shard, key.file_name())?;
        self.kept = true;
        Ok(())
    }
}

impl Write for Partial {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        self.file.write(piece)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            // Only the space is at stake, and a restart clears the whole directory.
            let _ = unlinkat(&self.cache.partial, &self.name, AtFlags::empty());
        }
    }
}
