//! Zstandard on the wire: whole blobs in batches, and streams on `ByteStream`. What packs and unpacks is
//! [`grid_cas::packing`].

use bytes::Bytes;
use grid_cas::{ByteStream, StoreError};
use grid_proto::reapi::compressor::Value;

pub use grid_cas::packing::{WINDOW_LOG, decompress, decompress_stream};

/// How hard the server compresses: the fastest of zstd's ordinary levels.
const LEVEL: i32 = 1;

/// The compressors that the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// The blob's own bytes.
    Identity,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// The compressor with this number in REAPI's `Compressor.Value`.
    #[must_use]
    pub fn from_wire(value: i32) -> Option<Self> {
        match Value::try_from(value) {
            Ok(Value::Identity) => Some(Self::Identity),
            Ok(Value::Zstd) => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The compressor of this lower-case name; `identity` is none, for names of plain blobs don't carry it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        (name == "zstd").then_some(Self::Zstd)
    }
}

/// `content` compressed, where that makes it smaller.
#[must_use]
pub fn compress(content: &[u8]) -> Option<Bytes> {
    let packed = zstd::bulk::compress(content, LEVEL).ok()?;
    (packed.len() < content.len()).then(|| packed.into())
}

/// `plain`, `size` bytes of it, in one zstd frame.
///
/// # Errors
/// [`StoreError::Internal`] where zstd gives no context.
pub fn compress_stream(size: u64, plain: ByteStream) -> Result<ByteStream, StoreError> {
    grid_cas::packing::compress_stream(size, LEVEL, plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_that_does_not_shrink_stays_as_it_is() {
        assert!(compress(b"abc").is_none());
        assert!(compress(&[0; 5000]).is_some());
    }
}
