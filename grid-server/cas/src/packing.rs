//! Zstandard: a blob's content as one compressed frame, and back, piece by piece.
//!
//! A frame that asks for a window above [`WINDOW_LOG`] is refused, and unpacking stops at the first byte past what was
//! announced: nothing costs more than it said it would. Whether the content is the blob is not checked here: the `verify`
//! decorator does that.

use std::io;

use bytes::Bytes;
use futures::stream::{self, TryStreamExt};
use grid_core::Digest;
use zstd::stream::raw::{CParameter, DParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};

use crate::{ByteStream, StoreError};

/// The largest window that frames may ask for, as a power of two: what RFC 8878 wants every decoder
/// to support, 8 MiB.
pub const WINDOW_LOG: u32 = 23;

/// The size of the pieces that come out of a stream, in bytes.
const PIECE: usize = 128 << 10;

fn malformed(error: &io::Error) -> StoreError {
    StoreError::Malformed(format!("not valid zstd data: {error}").into())
}

fn internal(error: &io::Error) -> StoreError {
    StoreError::Internal { backend: "zstd".into(), message: error.to_string() }
}

/// The blob that `packed` holds, which must be exactly as long as `digest` says.
///
/// # Errors
/// [`StoreError::Malformed`] for what is no zstd data; [`StoreError::SizeMismatch`].
pub fn decompress(digest: &Digest, packed: &[u8]) -> Result<Bytes, StoreError> {
    let mut unpacked = Vec::new();
    let mut decoder = Unpacker::new(*digest, digest.size())?;
    let mut input = InBuffer::around(packed);
    while let Some(piece) = decoder.next_piece(&mut input)? {
        unpacked.extend_from_slice(&piece);
    }
    let last = decoder.finish()?;
    if unpacked.is_empty() {
        return Ok(last);
    }
    unpacked.extend_from_slice(&last);
    Ok(unpacked.into())
}

/// Unpacks frames of one blob, piece by piece.
struct Unpacker {
    decoder: Decoder<'static>,
    digest: Digest,
    expected: u64,
    out: Vec<u8>,
    produced: u64,
    between_frames: bool,
    magic: Magic,
}

impl Unpacker {
    fn new(digest: Digest, expected: u64) -> Result<Self, StoreError> {
        let mut decoder = Decoder::new().map_err(|e| internal(&e))?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(|e| internal(&e))?;
        let out = Self::buffer(expected);
        Ok(Self {
            decoder,
            digest,
            expected,
            out,
            produced: 0,
            between_frames: false,
            magic: Magic::default(),
        })
    }

    // One byte more than can be right, so that a blob that is too long shows.
    fn buffer(left: u64) -> Vec<u8> {
        Vec::with_capacity(usize::try_from(left).unwrap_or(PIECE).saturating_add(1).min(PIECE))
    }

    /// The next full piece, or `None` once `input` is used up.
    fn next_piece(&mut self, input: &mut InBuffer<'_>) -> Result<Option<Bytes>, StoreError> {
        loop {
            let start = self.out.len();
            let consumed = input.pos();
            self.magic.look_at(input.src.get(consumed..).unwrap_or_default())?;
            let mut output = OutBuffer::around_pos(&mut self.out, start);
            let hint = self.decoder.run(input, &mut output).map_err(|e| malformed(&e))?;
            self.magic.took(input.pos() - consumed, hint == 0);
            self.produced += (self.out.len() - start) as u64;
            if self.produced > self.expected {
                return Err(self.mismatch());
            }
            let moved = input.pos() > consumed || self.out.len() > start;
            if moved {
                self.between_frames = hint == 0;
            }
            if self.out.len() == self.out.capacity() {
                let fresh = Self::buffer(self.expected - self.produced);
                return Ok(Some(std::mem::replace(&mut self.out, fresh).into()));
            }
            if input.pos() == input.src.len() {
                return Ok(None);
            }
        }
    }

    /// What is left once the input has ended.
    fn finish(self) -> Result<Bytes, StoreError> {
        if !self.between_frames {
            return Err(StoreError::Malformed("the zstd data ends in the middle of a frame".into()));
        }
        if self.produced != self.expected {
            return Err(self.mismatch());
        }
        Ok(self.out.into())
    }

    fn mismatch(&self) -> StoreError {
        let before = self.digest.size() - self.expected;
        StoreError::SizeMismatch { expected: self.digest, actual: before + self.produced }
    }
}

/// The first four bytes of each frame, of which the decoder takes one at a time.
///
/// The library knows the formats before version 0.8 too. Those are no part of RFC 8878, and it finds them only where the first
/// piece of input has four bytes: the same blob would be good or bad by how it was cut.
#[derive(Default)]
struct Magic {
    first: u8,
    taken: usize,
}

impl Magic {
    /// A frame, and one to be skipped, whose first byte's low half is free.
    const FRAMES: [([u8; 4], u8); 2] = [([0x28, 0xb5, 0x2f, 0xfd], 0xff), ([0x50, 0x2a, 0x4d, 0x18], 0xf0)];

    /// What the decoder is given next.
    fn look_at(&mut self, input: &[u8]) -> Result<(), StoreError> {
        let missing = 4_usize.saturating_sub(self.taken);
        for (place, &byte) in (self.taken..4).zip(input.iter().take(missing)) {
            if place == 0 {
                self.first = byte;
            }
            let fits = Self::FRAMES.iter().any(|(magic, mask)| {
                magic.first() == Some(&(self.first & mask)) && (place == 0 || magic.get(place) == Some(&byte))
            });
            if !fits {
                return Err(StoreError::Malformed(
                    "not valid zstd data: no frame of RFC 8878 starts so".into(),
                ));
            }
        }
        Ok(())
    }

    /// How much of it the decoder took, and whether that was the end of a frame: it never goes on into the next.
    fn took(&mut self, bytes: usize, end_of_frame: bool) {
        self.taken = if end_of_frame && bytes > 0 { 0 } else { self.taken.saturating_add(bytes).min(4) };
    }
}

/// The last `expected` bytes of the blob `digest`, out of their compressed form.
///
/// The stream ends in [`StoreError::Malformed`] or [`StoreError::SizeMismatch`] where the content is no zstd data or
/// of another length; it unpacks no more than one piece ahead of its reader.
///
/// # Errors
/// [`StoreError::Internal`] where zstd gives no context.
pub fn decompress_stream(
    digest: Digest,
    expected: u64,
    packed: ByteStream,
) -> Result<ByteStream, StoreError> {
    let unpacker = Some(Unpacker::new(digest, expected.min(digest.size()))?);
    let state = Unpacking { unpacker, packed, input: Bytes::new(), at: 0 };
    Ok(Box::pin(stream::try_unfold(state, Unpacking::step)))
}

struct Unpacking {
    unpacker: Option<Unpacker>,
    packed: ByteStream,
    input: Bytes,
    at: usize,
}

impl Unpacking {
    async fn step(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        let Some(mut unpacker) = self.unpacker.take() else { return Ok(None) };
        loop {
            let mut input = InBuffer { src: &self.input, pos: self.at };
            let piece = unpacker.next_piece(&mut input)?;
            self.at = input.pos();
            if let Some(piece) = piece {
                self.unpacker = Some(unpacker);
                return Ok(Some((piece, self)));
            }
            match self.packed.try_next().await? {
                Some(next) => (self.input, self.at) = (next, 0),
                None => {
                    let last = unpacker.finish()?;
                    return Ok((!last.is_empty()).then_some((last, self)));
                }
            }
        }
    }
}

/// `plain`, `size` bytes of it, in one zstd frame; `level` is zstd's.
///
/// # Errors
/// [`StoreError::Internal`] where zstd gives no context.
pub fn compress_stream(size: u64, level: i32, plain: ByteStream) -> Result<ByteStream, StoreError> {
    let mut encoder = Encoder::new(level).map_err(|e| internal(&e))?;
    encoder.set_pledged_src_size(Some(size)).map_err(|e| internal(&e))?;
    // A large window pays off only with levels that search far, and each reader would hold one.
    encoder.set_parameter(CParameter::WindowLog(19)).map_err(|e| internal(&e))?;
    let state = Packing { encoder: Some(encoder), plain, input: Bytes::new(), at: 0 };
    Ok(Box::pin(stream::try_unfold(state, Packing::step)))
}

struct Packing {
    encoder: Option<Encoder<'static>>,
    plain: ByteStream,
    input: Bytes,
    at: usize,
}

impl Packing {
    async fn step(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        let Some(mut encoder) = self.encoder.take() else { return Ok(None) };
        let mut out = Vec::with_capacity(PIECE);
        loop {
            let mut input = InBuffer { src: &self.input, pos: self.at };
            let end = out.len();
            let mut output = OutBuffer::around_pos(&mut out, end);
            encoder.run(&mut input, &mut output).map_err(|e| internal(&e))?;
            self.at = input.pos();
            if out.len() == out.capacity() {
                self.encoder = Some(encoder);
                return Ok(Some((out.into(), self)));
            }
            if self.at < self.input.len() {
                continue;
            }
            match self.plain.try_next().await? {
                Some(next) => (self.input, self.at) = (next, 0),
                None => return self.finish(encoder, out),
            }
        }
    }

    fn finish(
        mut self,
        mut encoder: Encoder<'static>,
        mut out: Vec<u8>,
    ) -> Result<Option<(Bytes, Self)>, StoreError> {
        (self.input, self.at) = (Bytes::new(), 0);
        let mut left = 1;
        while left > 0 {
            // The frame's end may need more room than the piece has left.
            out.reserve(PIECE / 8);
            let end = out.len();
            left =
                encoder.finish(&mut OutBuffer::around_pos(&mut out, end), false).map_err(|e| internal(&e))?;
        }
        Ok((!out.is_empty()).then_some((out.into(), self)))
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use grid_core::DigestFunction;
    use proptest::prelude::*;

    use super::*;

    fn digest(content: &[u8]) -> Digest {
        Digest::of(DigestFunction::Sha256, content)
    }

    fn pieces(content: &[u8], size: usize) -> ByteStream {
        let pieces: Vec<_> = content.chunks(size.max(1)).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        Box::pin(stream::iter(pieces))
    }

    fn gather(stream: ByteStream) -> Result<Vec<u8>, StoreError> {
        let parts: Vec<Bytes> = block_on(stream.try_collect())?;
        Ok(parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn streams_round_trip(content in prop::collection::vec(0..4_u8, 0..400_000), size in 1..70_000_usize) {
            let packed = gather(compress_stream(content.len() as u64, 1, pieces(&content, size)).unwrap()).unwrap();
            let unpacked = decompress_stream(digest(&content), content.len() as u64, pieces(&packed, size)).unwrap();
            prop_assert_eq!(gather(unpacked).unwrap(), content.clone());
            prop_assert_eq!(decompress(&digest(&content), &packed).unwrap().to_vec(), content);
        }

        #[test]
        fn garbage_is_refused_without_a_panic(garbage in prop::collection::vec(any::<u8>(), 1..2_000)) {
            let unpacked = decompress_stream(digest(b"something"), 9, pieces(&garbage, 100)).unwrap();
            prop_assert!(gather(unpacked).is_err());
            prop_assert!(decompress(&digest(b"something"), &garbage).is_err());
        }
    }

    #[test]
    fn a_bomb_stops_at_its_announced_size() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
        let small = digest(&[0; 1000]);
        assert!(matches!(decompress(&small, &bomb), Err(StoreError::SizeMismatch { .. })));
        let unpacked = gather(decompress_stream(small, 1000, pieces(&bomb, 500)).unwrap());
        assert!(matches!(unpacked, Err(StoreError::SizeMismatch { actual, .. }) if actual < 200_000));
    }

    #[test]
    fn frames_with_a_huge_window_are_refused() {
        let content: Vec<u8> = (0..40_000_000_u32).map(|i| (i % 251) as u8).collect();
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(25).unwrap();
        io::Write::write_all(&mut encoder, &content).unwrap();
        let packed = encoder.finish().unwrap();
        let unpacked = gather(
            decompress_stream(digest(&content), content.len() as u64, pieces(&packed, 100_000)).unwrap(),
        );
        assert!(matches!(unpacked, Err(StoreError::Malformed(_))));
    }

    #[test]
    fn a_cut_frame_is_refused_and_several_frames_are_one_blob() {
        let packed = zstd::bulk::compress(b"hello hello hello", 3).unwrap();
        let cut = &packed[..packed.len() - 1];
        assert!(matches!(decompress(&digest(b"hello hello hello"), cut), Err(StoreError::Malformed(_))));
        let twice = [packed.clone(), packed].concat();
        let whole = b"hello hello hellohello hello hello";
        assert_eq!(&decompress(&digest(whole), &twice).unwrap()[..], whole);
    }

    /// What the library's decoders of formats before 0.8 take for a blob, where they see the first four bytes at once.
    #[test]
    fn frames_of_formats_before_the_standard_are_refused_however_they_are_cut() {
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let hello = zstd::bulk::compress(b"hello", 3).unwrap();
        let before = [&[0x25, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0][..], &hello].concat();
        for size in [1, 3, 4, 100] {
            let unpack =
                |packed: &[u8]| gather(decompress_stream(digest(b"hello"), 5, pieces(packed, size)).unwrap());
            assert_eq!(unpack(&[&skipped[..], &hello, &skipped].concat()).unwrap(), b"hello");
            assert!(matches!(unpack(&before), Err(StoreError::Malformed(_))));
        }
        assert!(matches!(decompress(&digest(b"hello"), &before), Err(StoreError::Malformed(_))));
    }
}
