//! `!disk-storage`: blobs as files, in BuildGrid's layout.
//!
//! A blob is written to a temporary file and appears by renaming. What was acknowledged survives the end of the
//! process, however it ends. With `sync`, data and folder are synced before the answer, and it survives the end of the
//! machine as well; without, blobs of the last seconds may then be lost or torn. A torn file has the wrong size, and is
//! taken for absent. A disk is served by one process; others may work `beside` it, as cleanup does.

mod core;
mod index;
mod layout;
mod listing;
mod upload;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, TryStreamExt};
use grid_core::{Clock, Digest};

use self::core::Core;
use self::index::Touch;
use self::upload::Upload;
use crate::content::{self, is_empty_blob};
use crate::form::Form;
use crate::observer::SharedObserver;
use crate::{BlobStore, ByteRange, ByteStream, StoreError};

/// How much one visit to a blocking thread reads, in bytes.
const READ: u64 = 256 * 1024;

/// How a [`Disk`] is opened.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// The folder that `cas/objects` and `tmp` are in (`path`).
    pub path: PathBuf,
    /// How many bytes of blobs to hold at most (`max-size`, ours); the oldest leave. `None` leaves that to cleanup.
    pub max_size: Option<u64>,
    /// Whether an acknowledged blob must survive the end of the machine (`sync`, ours; off by default: what a cache
    /// loses is built again).
    pub sync: bool,
    /// How blobs are held.
    pub form: Form,
    /// Whether another process may be serving this disk: then nothing is read ahead, tidied up or evicted, and existence
    /// is asked of the file system.
    pub beside: bool,
    /// Its place in the configuration, for errors.
    pub name: Arc<str>,
    /// Who is told of evictions.
    pub observer: SharedObserver,
}

/// Blobs on a disk.
#[derive(Debug)]
pub struct Disk {
    core: Arc<Core>,
}

impl Disk {
    /// Opens the storage, and makes its folders if they are not there. It answers at once; what lies there already is
    /// read in the background, and until that is done existence is asked of the file system.
    ///
    /// # Errors
    /// Where the folders can't be made or written.
    pub async fn open(options: DiskOptions, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let name = Arc::clone(&options.name);
        let opened = tokio::task::spawn_blocking(move || Core::open(options, clock));
        let core = Arc::new(opened.await.map_err(|error| died(&name, &error))??);
        if core.options.beside {
            return Ok(Self { core });
        }
        let loading = Arc::clone(&core);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = loading.load() {
                tracing::error!(%error, "the disk's content could not be read in full; existence is asked of the disk");
            }
        });
        Ok(Self { core })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Core>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let core = Arc::clone(&self.core);
        let done = tokio::task::spawn_blocking(move || work(&core)).await;
        done.map_err(|error| died(&self.core.options.name, &error))?
    }

    /// Those of `digests` that the index does not know. Notes uses.
    fn unknown(&self, digests: &[Digest]) -> Vec<Digest> {
        let now = self.core.clock.now();
        let mut stale = Vec::new();
        let unknown = content::missing_of(digests, |digest| match self.core.index.touch(digest, now) {
            Touch::Absent => false,
            Touch::Present => true,
            Touch::PresentStale => {
                stale.push(*digest);
                true
            }
        });
        if !stale.is_empty() {
            let core = Arc::clone(&self.core);
            tokio::task::spawn_blocking(move || core.stamp(&stale));
        }
        unknown
    }

    async fn has(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.find_missing(std::slice::from_ref(digest)).await?.is_empty())
    }

    /// Those of `digests` whose files are not there, whatever the index says: what a cleaner of another process deleted
    /// must be written again.
    async fn missing_files(&self, digests: &[Digest]) -> Result<content::DigestSet, StoreError> {
        let missing = self.find_missing(digests).await?;
        let known = content::missing_of(digests, |digest| missing.contains(digest));
        let mut missing: content::DigestSet = missing.into_iter().collect();
        if !known.is_empty() {
            let gone = self.blocking(move |core| Ok(core.gone(known)));
            missing.extend(gone.await?);
        }
        Ok(missing)
    }

    fn check_size(&self, digest: &Digest) -> Result<(), StoreError> {
        match self.core.options.max_size {
            // How long a packed blob becomes is seen when it comes.
            Some(limit) if self.core.options.form == Form::Plain && digest.size() > limit => {
                Err(StoreError::TooLarge {
                    digest: *digest,
                    limit,
                    backend: Arc::clone(&self.core.options.name),
                })
            }
            _ => Ok(()),
        }
    }

    /// What is left of a blob between `position` and `end`, read as it is asked for.
    fn rest(&self, file: File, digest: Digest, position: u64, end: u64) -> ByteStream {
        let core = Arc::clone(&self.core);
        Box::pin(stream::try_unfold((file, position), move |(mut file, position)| {
            let core = Arc::clone(&core);
            async move {
                if position == end {
                    return Ok(None);
                }
                let count = (end - position).min(READ);
                let name = Arc::clone(&core.options.name);
                let read = tokio::task::spawn_blocking(move || {
                    let piece = core.read_exactly(&mut file, &digest, to_usize(count))?;
                    Ok((piece, (file, position + count)))
                });
                read.await.map_err(|error| died(&name, &error))?.map(Some)
            }
        }))
    }
}

#[async_trait]
impl BlobStore for Disk {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let loaded = self.core.is_loaded();
        let mut unknown = self.unknown(digests);
        if loaded || unknown.is_empty() {
            return Ok(unknown);
        }
        self.blocking(move |core| {
            let mut found = Vec::with_capacity(unknown.len());
            for digest in &unknown {
                found.push(core.look(digest)?);
            }
            let mut found = found.into_iter();
            unknown.retain(|_| found.next() == Some(false));
            Ok(unknown)
        })
        .await
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<ByteStream, StoreError> {
        if !self.has(digest).await? {
            return Err(StoreError::NotFound(*digest));
        }
        let (start, end) = content::bounds(digest, range)?;
        if start == end {
            return Ok(content::from_bytes(Bytes::new()));
        }
        let (digest, form) = (*digest, self.core.options.form);
        let opened = self.blocking(move |core| {
            let (mut file, length) = core.open_blob(&digest, start)?;
            let end = if form == Form::Plain { end } else { length };
            let first = (end - start).min(READ);
            let piece = core.read_exactly(&mut file, &digest, to_usize(first))?;
            Ok((file, piece, first, end))
        });
        let (file, piece, first, end) = opened.await?;
        if start + first == end {
            return Ok(content::from_bytes(piece));
        }
        let rest = self.rest(file, digest, start + first, end);
        Ok(Box::pin(futures::StreamExt::chain(content::from_bytes(piece), rest)))
    }

    async fn write(&self, digest: &Digest, content: ByteStream) -> Result<(), StoreError> {
        if is_empty_blob(digest) || !self.missing_files(&[*digest]).await?.contains(digest) {
            return Ok(());
        }
        self.check_size(digest)?;
        let mut content = self.core.options.form.checked(digest, content);
        let mut upload = Upload::new(Arc::clone(&self.core), *digest);
        while let Some(piece) = content.try_next().await? {
            if upload.push(piece) {
                upload = self.blocking(move |_| upload.flush()).await?;
            }
        }
        self.blocking(move |_| upload.finish()).await
    }

    async fn read_batch(&self, digests: &[Digest]) -> Vec<Result<Bytes, StoreError>> {
        let missing: content::DigestSet = match self.find_missing(digests).await {
            Ok(missing) => missing.into_iter().collect(),
            Err(error) => return vec![Err(error); digests.len()],
        };
        let digests = digests.to_vec();
        let count = digests.len();
        let read = self.blocking(move |core| {
            let one = |digest: &Digest| {
                if is_empty_blob(digest) {
                    return Ok(Bytes::new());
                }
                if missing.contains(digest) {
                    return Err(StoreError::NotFound(*digest));
                }
                let (mut file, length) = core.open_blob(digest, 0)?;
                core.read_exactly(&mut file, digest, to_usize(length))
            };
            Ok(digests.iter().map(one).collect())
        });
        read.await.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn write_batch(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let digests: Vec<_> = blobs.iter().map(|(digest, _)| *digest).collect();
        let missing = match self.missing_files(&digests).await {
            Ok(missing) => missing,
            Err(error) => return vec![Err(error); blobs.len()],
        };
        let sizes: Vec<_> = digests.iter().map(|digest| self.check_size(digest)).collect();
        let written = self.blocking(move |core| {
            let one = |((digest, bytes), size): ((Digest, Bytes), Result<(), StoreError>)| {
                if !missing.contains(&digest) {
                    return Ok(());
                }
                size?;
                let actual = bytes.len() as u64;
                if !core.options.form.fits(&digest, actual) {
                    return Err(StoreError::SizeMismatch { expected: digest, actual });
                }
                let mut upload = Upload::new(Arc::clone(core), digest);
                upload.push(bytes);
                upload.finish()
            };
            Ok(blobs.into_iter().zip(sizes).map(one).collect())
        });
        written.await.unwrap_or_else(|error| vec![Err(error); digests.len()])
    }

    async fn delete(&self, digests: &[Digest]) -> Vec<Result<(), StoreError>> {
        let digests = digests.to_vec();
        let count = digests.len();
        let deleted =
            self.blocking(move |core| Ok(digests.iter().map(|digest| core.delete(digest)).collect()));
        deleted.await.unwrap_or_else(|error| vec![Err(error); count])
    }

    /// Makes and removes a temporary file: the disk is there, writable and not full.
    async fn probe(&self) -> Result<(), StoreError> {
        self.blocking(|core| core.temporary_file().map(drop)).await
    }
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// A blocking task ended without an answer: it panicked, or the runtime is going down.
fn died(backend: &Arc<str>, error: &tokio::task::JoinError) -> StoreError {
    StoreError::Internal { backend: Arc::clone(backend), message: error.to_string() }
}
