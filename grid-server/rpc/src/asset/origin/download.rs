//! [`Downloaded`]: content that has come as a whole, in a file without a name.

use std::io::SeekFrom;
use std::path::Path;

use bytes::Bytes;
use futures::stream::{self, TryStreamExt};
use grid_cas::{ByteStream, SharedStore, StoreError};
use grid_core::Digest;
use reqwest::Response;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use super::OriginError;
use crate::asset::checksum::Hashing;

/// The size of the pieces in which content is read back, in bytes.
const PIECE: usize = 256 << 10;

/// Content with its digest, and its hash by the algorithm of the checksum.
pub(in crate::asset) struct Downloaded {
    pub(in crate::asset) digest: Digest,
    pub(in crate::asset) hash: Vec<u8>,
    content: File,
}

/// Takes in the content of an answer, up to `limit` bytes.
pub(super) async fn receive(
    mut response: Response,
    mut hashing: Hashing,
    limit: u64,
    folder: &Path,
) -> Result<Downloaded, OriginError> {
    let announced = response.content_length();
    if announced.is_some_and(|length| length > limit) {
        return Err(OriginError::TooLarge(limit));
    }
    let mut content = File::from_std(tempfile::tempfile_in(folder)?);
    let mut came = 0_u64;
    while let Some(piece) = response.chunk().await? {
        came += piece.len() as u64;
        if came > limit {
            return Err(OriginError::TooLarge(limit));
        }
        hashing.update(&piece);
        content.write_all(&piece).await?;
    }
    content.flush().await?;
    let (digest, hash) = hashing.finish();
    Ok(Downloaded { digest, hash, content })
}

impl Downloaded {
    /// Puts the content into a store.
    pub(in crate::asset) async fn store(mut self, store: &SharedStore) -> Result<Digest, OriginError> {
        self.content.seek(SeekFrom::Start(0)).await?;
        store.write(&self.digest, pieces(self.content)).await?;
        Ok(self.digest)
    }
}

fn pieces(file: File) -> ByteStream {
    let pieces = stream::try_unfold(file, |mut file| async move {
        let mut piece = Vec::with_capacity(PIECE);
        (&mut file).take(PIECE as u64).read_to_end(&mut piece).await?;
        Ok((!piece.is_empty()).then(|| (Bytes::from(piece), file)))
    });
    Box::pin(pieces.map_err(|error: std::io::Error| StoreError::Internal {
        backend: "assets on their way".into(),
        message: error.to_string(),
    }))
}
