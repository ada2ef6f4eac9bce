//! Outputs: from what a command left in its input root to blobs and an `ActionResult`.
//!
//! [`declared`] says which paths are outputs (pure), [`collect`] looks at them without following a link out of
//! the root, [`tree`] describes directories, [`send`] uploads what the CAS lacks. What can't be described
//! exactly is refused, never left out, but where the command failed anyway.

pub mod collect;
pub mod declared;
pub mod send;
pub mod tree;

use std::path::PathBuf;

use bytes::Bytes;
use grid_core::Digest;

/// A blob to upload.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Where its content is.
    pub content: Content,
}

/// Where the content of a blob is.
#[derive(Clone, Debug)]
pub enum Content {
    /// Here.
    Memory(Bytes),
    /// In a file at this path below the input root.
    File(PathBuf),
}
