//! What lies on the disk, folder by folder, as the file system tells it.

use std::fs;
use std::io;
use std::time::SystemTime;

use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use grid_core::{Digest, DigestFunction, Timestamp};

use super::Disk;
use super::core::Core;
use crate::StoreError;
use crate::inventory::{Inventory, Pages, Stored};

#[async_trait]
impl Inventory for Disk {
    fn list(&self) -> Pages<'_> {
        let functions = DigestFunction::ALL.into_iter();
        let folders = functions.flat_map(|function| (0..=u8::MAX).map(move |byte| (function, byte)));
        let page = |(function, byte)| self.blocking(move |core| core.list(function, byte));
        Box::pin(stream::iter(folders).then(page))
    }

    async fn stored(&self, digests: &[Digest]) -> Result<Vec<Stored>, StoreError> {
        let digests = digests.to_vec();
        self.blocking(move |core| {
            let stored = digests.into_iter().map(|digest| core.stored(digest));
            stored.filter_map(Result::transpose).collect()
        })
        .await
    }
}

impl Core {
    /// The blobs of one folder.
    fn list(&self, function: DigestFunction, byte: u8) -> Result<Vec<Stored>, StoreError> {
        let prefix = hex::encode([byte]);
        let folder = self.layout.function_folder(function).join(&prefix);
        let trouble = |error: io::Error| self.error(&folder, &error);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(trouble)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(trouble)?;
            // One that is deleted meanwhile is none.
            let Ok(metadata) = entry.metadata() else { continue };
            let name = entry.file_name();
            let digest = self.layout.digest(function, &prefix, &name.to_string_lossy(), metadata.len());
            let digest = digest.filter(|digest| self.options.form.fits(digest, metadata.len()));
            if let (true, Some(digest)) = (metadata.is_file(), digest) {
                found.push(Stored { digest, since: since(&metadata) });
            }
        }
        Ok(found)
    }

    fn stored(&self, digest: Digest) -> Result<Option<Stored>, StoreError> {
        let path = self.layout.path(&digest);
        match fs::metadata(&path) {
            Ok(file) if self.options.form.fits(&digest, file.len()) => {
                Ok(Some(Stored { digest, since: since(&file) }))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error(&path, &error)),
        }
    }
}

/// When the content was written; uses change the time of access alone.
fn since(metadata: &fs::Metadata) -> Timestamp {
    metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH).into()
}
