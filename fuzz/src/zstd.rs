//! Zstandard framing: whole and in pieces, an input is the same blob or none, and never more than was announced.

use bytes::Bytes;
use futures::TryStreamExt as _;
use grid_cas::StoreError;
use grid_core::{Digest, DigestFunction};
use grid_rpc::compression::{compress, decompress, decompress_stream};

/// Sizes are announced in 20 bits.
const SIZES: u64 = 1 << 20;

pub(crate) fn run(data: &[u8]) {
    let Some((head, packed)) = data.split_first_chunk::<4>() else { return };
    let announced = u64::from(u32::from_le_bytes(*head)) % SIZES;
    let piece = usize::from(head[3]) + 1;
    let digest = Digest::new(DigestFunction::Sha256, &[7; 32], announced).expect("a digest");
    let whole = decompress(&digest, packed);
    let pieces: Vec<_> = packed.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let streamed =
        decompress_stream(digest, announced, Box::pin(futures::stream::iter(pieces))).and_then(|content| {
            futures::executor::block_on(content.try_collect::<Vec<Bytes>>()).map(|pieces| pieces.concat())
        });
    match (&whole, &streamed) {
        (Ok(whole), Ok(streamed)) => {
            assert!(whole == streamed);
            assert_eq!(whole.len() as u64, announced);
            if let Some(again) = compress(whole) {
                assert!(decompress(&digest, &again).expect("what was just packed") == whole);
            }
        }
        (Err(StoreError::Malformed(_) | StoreError::SizeMismatch { .. }), Err(_)) => {}
        _ => panic!("whole {whole:?}, in pieces {streamed:?}"),
    }
}
