//! [`Journal`]: which deferred writes are still to be made, as empty files in a folder beside a cache that outlives its
//! process. It is written before a blob is acknowledged, and read once, when the next process opens the cache.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grid_core::{Digest, DigestFunction};

use crate::StoreError;

/// The journal in a folder.
#[derive(Clone, Debug)]
pub struct Journal {
    folder: Arc<Path>,
}

impl Journal {
    /// The journal in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where it can't be used.
    pub async fn open(folder: PathBuf) -> Result<Self, StoreError> {
        let journal = Self { folder: folder.into() };
        journal.blocking(|folder| fs::create_dir_all(folder)).await?;
        Ok(journal)
    }

    /// Notes blobs; they stay noted whatever becomes of this process and its machine.
    pub(super) async fn note(&self, digests: Vec<Digest>) -> Result<(), StoreError> {
        self.blocking(move |folder| {
            for digest in &digests {
                File::create(folder.join(name(digest)))?;
            }
            File::open(folder)?.sync_all()
        })
        .await
    }

    /// Takes a blob out. That this is lost with the machine does no harm: the write is made once more.
    pub(super) async fn strike(&self, digest: Digest) {
        let removed = self.blocking(move |folder| match fs::remove_file(folder.join(name(&digest))) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
        if let Err(error) = removed.await {
            tracing::warn!(%digest, %error, "a write that was made stays noted, and will be made again");
        }
    }

    /// What the process before left.
    pub(super) async fn left(&self) -> Result<Vec<Digest>, StoreError> {
        self.blocking(|folder| {
            let mut left = Vec::new();
            for entry in fs::read_dir(folder)? {
                left.extend(entry?.file_name().to_str().and_then(digest));
            }
            Ok(left)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let folder = Arc::clone(&self.folder);
        let done = tokio::task::spawn_blocking(move || work(&folder)).await;
        done.map_err(io::Error::other).flatten().map_err(|source| self.error(&source))
    }

    fn error(&self, source: &io::Error) -> StoreError {
        let backend = format!("the journal of deferred writes in {}", self.folder.display()).into();
        let message = source.to_string();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { backend, message },
            _ => StoreError::Refused { backend, message },
        }
    }
}

fn name(digest: &Digest) -> String {
    format!("{}_{}_{}", digest.function().name(), digest.hash_hex(), digest.size())
}

fn digest(name: &str) -> Option<Digest> {
    let mut parts = name.splitn(3, '_');
    let (function, hash, size) = (parts.next()?, parts.next()?, parts.next()?);
    let function = DigestFunction::ALL.into_iter().find(|known| known.name() == function)?;
    Digest::parse(function, hash, size.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_its_digest_back() {
        for function in DigestFunction::ALL {
            let digest_of = Digest::of(function, b"abc");
            assert_eq!(digest(&name(&digest_of)), Some(digest_of));
        }
        assert_eq!(digest("sha256_00_1"), None);
        assert_eq!(digest("lost+found"), None);
    }
}
