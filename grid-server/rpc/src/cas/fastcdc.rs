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

    /// Toriyama Sekien's picture of an akashita (18th century, in the public domain), which the vectors are about.
    const PICTURE: &[u8] = include_bytes!("../../tests/fixtures/akashita.jpg");

    /// Lengths and hashes of the picture's chunks (REAPI, `fastcdc2020_test_vectors.txt`), by seed.
    const VECTORS: [(u32, [(usize, &str); 6]); 2] = [
        (
            0,
            [
                (19_186, "0f9efa589121d5d9e9e2c4ace91337d77cae866537143f6f15a0ffd525a77c2d"),
                (19_279, "c7c86a165573c16448cda35c9169742e85645af42be22889f8b96b8ee0ec7cb0"),
                (17_354, "bc88521e28a8b4479cdea5f75aa721a24f3a0a7d0be903aa6d505c574e51e89d"),
                (16_387, "4b8dac2652e4685c629d2bb1ae9d4448e676b86f2e67ca0b2fff3d9580184b79"),
                (19_940, "c0a7062da6f2386c28e086ee0cedd5732252741269838773cff1ddb05b2df6ed"),
                (17_320, "7fa5b12134dc75cd2ac8dc60d3a8f3c8d22f0ee9d4cf74a4aa937e2a0d2d79a5"),
            ],
        ),
        (
            666,
            [
                (17_635, "cb3a9d80a3569772d4ed331ca37ab0c862c759897b890fc1aac90a4f2ea3a407"),
                (17_334, "d758c6b7b0b7eef1e996f8ccd17de6c645360b03a26c35541e7581348ac08944"),
                (19_136, "24846aefd89e510594bae3e9d7d5ea5012067601512610fed126a3c57ba993f5"),
                (17_467, "efa785e1fefb49f190e665f72fd246c1442079874508c312196da1fb3040d00b"),
                (23_593, "a2f557bdd8d40d8faada963ad5f91ec54b10ccee7c5ae72754a65137592dc607"),
                (14_301, "e131100b4a7147ccad19dc63c4a2fac1f5d8b644e1373eeb6803825024234efc"),
            ],
        ),
    ];

    #[test]
    fn cuts_are_those_that_were_published() {
        for (seed, expected) in VECTORS {
            let cut = chunks(PICTURE, 10_000, Parameters::new(16 << 10, seed));
            let hash = |chunk: &Bytes| Digest::of(DigestFunction::Sha256, chunk).hash_hex();
            let found: Vec<_> = cut.iter().map(|chunk| (chunk.len(), hash(chunk))).collect();
            assert_eq!(found, expected.map(|(length, hash)| (length, hash.to_owned())), "seed {seed}");
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
