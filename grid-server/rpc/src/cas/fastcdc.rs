//! Content-defined chunks by `FastCDC` 2020, with the parameters of REAPI's `FastCdc2020Params`.
//!
//! The smallest chunk is a quarter of the average, the largest four times it; normalization level 2. A blob that is
//! smaller than the largest chunk is not cut. The chunker holds at most one largest chunk and one piece of input.

use bytes::{Bytes, BytesMut};
use fastcdc::v2020::{FastCDC, Normalization};

/// The parameters of the chunker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Bytes below which no cut is made.
    pub min: usize,
    /// Bytes in a chunk on average; a power of two.
    pub avg: usize,
    /// Bytes at which a cut is made in any case.
    pub max: usize,
    /// Of the gear table; 0 for the published one.
    pub seed: u32,
}

impl Parameters {
    /// The parameters with this average, from 1 KiB to 1 MiB, and seed.
    #[must_use]
    pub fn new(avg: usize, seed: u32) -> Self {
        let avg = avg.clamp(1 << 10, 1 << 20).next_power_of_two();
        Self { min: avg / 4, avg, max: avg * 4, seed }
    }
}

/// Cuts content that arrives in pieces.
#[derive(Debug)]
pub struct Chunker {
    parameters: Parameters,
    pending: BytesMut,
}

impl Chunker {
    /// A chunker that has seen nothing.
    #[must_use]
    pub fn new(parameters: Parameters) -> Self {
        Self { parameters, pending: BytesMut::new() }
    }

    /// Takes the next piece; gives the chunks that are certain now.
    pub fn push(&mut self, piece: &[u8]) -> Vec<Bytes> {
        self.pending.extend_from_slice(piece);
        let mut chunks = Vec::new();
        // Where a cut falls depends on as many bytes as the largest chunk has.
        while self.pending.len() >= self.parameters.max {
            chunks.push(self.cut());
        }
        chunks
    }

    /// The chunks of what is left.
    pub fn finish(mut self) -> Vec<Bytes> {
        let mut chunks = Vec::new();
        while !self.pending.is_empty() {
            chunks.push(self.cut());
        }
        chunks
    }

    fn cut(&mut self) -> Bytes {
        let Parameters { min, avg, max, seed } = self.parameters;
        let source = &self.pending[..self.pending.len().min(max)];
        let chunker =
            FastCDC::with_level_and_seed(source, min, avg, max, Normalization::Level2, u64::from(seed));
        let (_, end) = chunker.cut(0, source.len());
        self.pending.split_to(end.clamp(1, self.pending.len())).freeze()
    }
}

#[cfg(test)]
mod tests {
    use grid_core::{Digest, DigestFunction};
    use proptest::prelude::*;

    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    fn chunks(content: &[u8], piece: usize, parameters: Parameters) -> Vec<Bytes> {
        let mut chunker = Chunker::new(parameters);
        let mut chunks: Vec<_> = content.chunks(piece).flat_map(|p| chunker.push(p)).collect();
        chunks.extend(chunker.finish());
        chunks
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn cuts_do_not_depend_on_pieces(length in 0..200_000_usize, piece in 1..70_000_usize, seed in 0..3_u32) {
            let content = noise(length);
            let parameters = Parameters::new(4 << 10, seed);
            let cut = chunks(&content, piece, parameters);
            prop_assert_eq!(&cut, &chunks(&content, usize::MAX, parameters));
            prop_assert_eq!(cut.concat(), content);
            let all_but_last = &cut[..cut.len().saturating_sub(1)];
            prop_assert!(all_but_last.iter().all(|c| c.len() >= parameters.min && c.len() <= parameters.max));
        }
    }

    /// REAPI publishes offsets, lengths and hashes for one picture (`fastcdc2020_test_vectors.txt`), which ships
    /// with the `fastcdc` crate's sources, not with its package; the same parameters must give the same cuts as
    /// the crate's own iterator over content held whole.
    #[test]
    fn cuts_are_those_of_the_reference() {
        let content = noise(1_000_000);
        for seed in [0, 666] {
            let parameters = Parameters::new(16 << 10, seed);
            let reference = FastCDC::with_level_and_seed(
                &content,
                parameters.min,
                parameters.avg,
                parameters.max,
                Normalization::Level2,
                u64::from(seed),
            );
            let expected: Vec<_> = reference.map(|c| c.length).collect();
            let found: Vec<_> = chunks(&content, 10_000, parameters).iter().map(Bytes::len).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn an_insertion_moves_few_cuts() {
        let content = noise(1 << 20);
        let changed = [&b"inserted"[..], &content].concat();
        let set = |content: &[u8]| -> std::collections::HashSet<Digest> {
            let parameters = Parameters::new(16 << 10, 0);
            chunks(content, 4096, parameters).iter().map(|c| Digest::of(DigestFunction::Sha256, c)).collect()
        };
        let (before, after) = (set(&content), set(&changed));
        assert!(before.intersection(&after).count() * 10 > before.len() * 9);
    }
}
