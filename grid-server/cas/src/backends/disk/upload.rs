//! [`Upload`]: one blob on its way to the disk.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use grid_core::Digest;
use tempfile::NamedTempFile;

use super::core::Core;
use crate::StoreError;

/// How much content is gathered in memory before a blocking thread writes it: with a thousand unfinished uploads,
/// 128 MiB.
const BUFFER: usize = 128 * 1024;

/// Content gathered so far. Dropping it, at any time, removes its file and gives its bytes back.
pub(super) struct Upload {
    core: Arc<Core>,
    digest: Digest,
    file: Option<NamedTempFile>,
    buffer: Vec<Bytes>,
    buffered: usize,
    reserved: u64,
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.core.release(self.reserved);
    }
}

impl Upload {
    pub(super) fn new(core: Arc<Core>, digest: Digest) -> Self {
        Self { core, digest, file: None, buffer: Vec::new(), buffered: 0, reserved: 0 }
    }

    /// Takes the next piece; true where it is time to flush.
    pub(super) fn push(&mut self, piece: Bytes) -> bool {
        self.buffered += piece.len();
        self.buffer.push(piece);
        self.buffered >= BUFFER
    }

    /// Writes what is gathered. Blocks.
    pub(super) fn flush(mut self) -> Result<Self, StoreError> {
        let bytes = self.buffered as u64;
        self.reserved += bytes;
        self.core.reserve(bytes)?;
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.core.temporary_file()?,
        };
        for piece in self.buffer.drain(..) {
            file.write_all(&piece).map_err(|error| self.core.error(file.path(), &error))?;
        }
        self.buffered = 0;
        self.file = Some(file);
        Ok(self)
    }

    /// Writes the rest, and makes the file the blob. Blocks.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        let mut upload = self.flush()?;
        match upload.file.take() {
            Some(file) => upload.core.commit(&upload.digest, upload.reserved, file),
            None => Ok(()),
        }
    }
}
