//! Whether all that an asset stands for is in the storage, which extends the life of all of it.

use grid_cache::contents::{self, Contents};
use grid_cas::content::dedup;
use grid_cas::{SharedStore, StoreError};
use grid_core::Digest;
use grid_streams::AssetKind;

/// The blobs of `wanted` and of all that they contain, as far as they are missing; an absent directory counts itself.
pub(super) async fn missing(
    store: &SharedStore,
    wanted: impl IntoIterator<Item = (AssetKind, Digest)>,
) -> Result<Vec<Digest>, StoreError> {
    let mut blobs = Vec::new();
    for (kind, digest) in wanted {
        match kind {
            AssetKind::Blob => blobs.push(digest),
            AssetKind::Directory => match contents::files(store, &digest, Contents::Directories).await? {
                Some(files) => blobs.extend(files),
                None => return Ok(vec![digest]),
            },
        }
    }
    store.find_missing(&dedup(blobs)).await
}
