//! Blobs to store, and their digests. The benches of storage and of services share it.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use grid_core::{DigestFunction, Hasher};
use grid_proto::reapi::Digest;

/// Bytes that don't compress, and differ for each number.
pub(crate) fn noise(number: u64, size: usize) -> Bytes {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut noise = BytesMut::with_capacity(size + 8);
    while noise.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(size);
    noise.freeze()
}

/// The digest of a blob in pieces.
pub(crate) fn digest(pieces: &[Bytes]) -> Digest {
    let mut hasher = Hasher::new(DigestFunction::Sha256);
    pieces.iter().for_each(|piece| hasher.update(piece));
    let digest = hasher.finish();
    let size = pieces.iter().map(Bytes::len).sum::<usize>();
    Digest { hash: digest.hash_hex(), size_bytes: i64::try_from(size).expect("a size") }
}

/// A name for an upload, which need not be hard to guess here.
pub(crate) fn uuid() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("00000000-0000-4000-8000-{:012x}", NUMBER.fetch_add(1, Ordering::Relaxed))
}
