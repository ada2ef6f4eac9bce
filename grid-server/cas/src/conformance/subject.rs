//! [`Subject`]: a store under test and what it promises; and blobs to test with.

use std::any::Any;
use std::fmt;

use bytes::Bytes;
use futures::stream;
use grid_core::{Digest, DigestFunction};

use crate::{ByteRange, ByteStream, SharedStore, StoreError, content};

/// A store under test. It must be empty.
pub struct Subject {
    /// The store.
    pub store: SharedStore,
    /// Whether it checks hashes (`verify` stands in its tree): backends on their own only check lengths.
    pub verifies: bool,
    /// Whether several digest functions can be stored; a remote server may speak SHA-256 alone.
    pub all_functions: bool,
    /// Whether blobs can be deleted through it: REAPI has no call for that.
    pub deletes: bool,
    // What must live as long as the store: a directory, a server.
    _keeper: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Subject {
    /// A store that promises all but the check of hashes.
    #[must_use]
    pub fn new(store: SharedStore) -> Self {
        Self { store, verifies: false, all_functions: true, deletes: true, _keeper: Box::new(()) }
    }

    /// Keeps `keeper` alive with the store.
    #[must_use]
    pub fn keeping(mut self, keeper: impl Any + Send + Sync) -> Self {
        self._keeper = Box::new(keeper);
        self
    }

    /// The same store, of which it is expected that it checks hashes.
    #[must_use]
    pub fn verifying(mut self) -> Self {
        self.verifies = true;
        self
    }

    /// The same store, which can't delete.
    #[must_use]
    pub fn without_deletes(mut self) -> Self {
        self.deletes = false;
        self
    }

    /// Whether a rule is about what this store promises.
    #[must_use]
    pub fn is_held_to(&self, rule: &str) -> bool {
        match rule {
            "wrong_content_is_refused" => self.verifies,
            "digests_of_different_functions_never_meet" => self.all_functions,
            "a_deleted_blob_is_gone_and_can_return"
            | "deleting_what_is_absent_succeeds"
            | "a_reader_survives_a_delete" => self.deletes,
            _ => true,
        }
    }

    /// Whether `digest` is there.
    pub async fn has(&self, digest: &Digest) -> bool {
        self.store.find_missing(&[*digest]).await.unwrap().is_empty()
    }

    /// Stores `bytes` as one stream.
    pub async fn put(&self, digest: &Digest, bytes: &Bytes) {
        self.store.write(digest, pieces(bytes, 1000)).await.unwrap();
    }

    /// A part of a blob, gathered.
    ///
    /// # Errors
    /// Those of the read and of its stream.
    pub async fn get(&self, digest: &Digest, range: ByteRange) -> Result<Bytes, StoreError> {
        gather(self.store.read(digest, range).await?).await
    }

    /// A whole blob, gathered.
    ///
    /// # Errors
    /// Those of the read and of its stream.
    pub async fn get_all(&self, digest: &Digest) -> Result<Bytes, StoreError> {
        self.get(digest, ByteRange::default()).await
    }
}

/// A stream's bytes.
pub(super) async fn gather(content: ByteStream) -> Result<Bytes, StoreError> {
    use futures::TryStreamExt;
    let pieces: Vec<Bytes> = content.try_collect().await?;
    Ok(pieces.concat().into())
}

/// `size` bytes that differ with `seed`, and their SHA-256 digest.
#[must_use]
pub fn blob(seed: u64, size: usize) -> (Digest, Bytes) {
    blob_of(DigestFunction::Sha256, seed, size)
}

/// `size` bytes that differ with `seed`, and their digest.
#[must_use]
pub fn blob_of(function: DigestFunction, seed: u64, size: usize) -> (Digest, Bytes) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ state >> 32).to_le_bytes());
    }
    bytes.truncate(size);
    let bytes = Bytes::from(bytes);
    (Digest::of(function, &bytes), bytes)
}

/// `bytes` as a stream of pieces of `size` bytes.
#[must_use]
pub fn pieces(bytes: &Bytes, size: usize) -> ByteStream {
    let bytes = bytes.clone();
    if bytes.is_empty() {
        return content::from_bytes(bytes);
    }
    let count = bytes.len().div_ceil(size);
    Box::pin(stream::iter(
        (0..count).map(move |i| Ok(bytes.slice(i * size..bytes.len().min((i + 1) * size)))),
    ))
}
