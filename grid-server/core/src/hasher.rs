//! [`Hasher`]: a blob's digest computed as its bytes go by, so that no blob is held for it.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::{Digest, DigestFunction};

/// Computes a [`Digest`] from content fed in pieces.
#[derive(Clone, Debug)]
pub struct Hasher {
    function: DigestFunction,
    state: State,
    size: u64,
}

#[derive(Clone, Debug)]
enum State {
    Sha256(Sha256),
    Sha1(Sha1),
    Md5(Md5),
    Sha384(Sha384),
    Sha512(Sha512),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new(function: DigestFunction) -> Self {
        let state = match function {
            DigestFunction::Sha256 => State::Sha256(Sha256::new()),
            DigestFunction::Sha1 => State::Sha1(Sha1::new()),
            DigestFunction::Md5 => State::Md5(Md5::new()),
            DigestFunction::Sha384 => State::Sha384(Sha384::new()),
            DigestFunction::Sha512 => State::Sha512(Sha512::new()),
            DigestFunction::Blake3 => State::Blake3(Box::default()),
        };
        Self { function, state, size: 0 }
    }

    /// Takes the next piece of the content.
    pub fn update(&mut self, piece: &[u8]) {
        self.size += piece.len() as u64;
        match &mut self.state {
            State::Sha256(hasher) => hasher.update(piece),
            State::Sha1(hasher) => hasher.update(piece),
            State::Md5(hasher) => hasher.update(piece),
            State::Sha384(hasher) => hasher.update(piece),
            State::Sha512(hasher) => hasher.update(piece),
            State::Blake3(hasher) => {
                hasher.update(piece);
            }
        }
    }

    /// How many bytes have been seen.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The digest of all that was fed.
    #[must_use]
    pub fn finish(self) -> Digest {
        let (function, size) = (self.function, self.size);
        match self.state {
            State::Sha256(hasher) => Digest::from_array(function, &hasher.finalize(), size),
            State::Sha1(hasher) => Digest::from_array(function, &hasher.finalize(), size),
            State::Md5(hasher) => Digest::from_array(function, &hasher.finalize(), size),
            State::Sha384(hasher) => Digest::from_array(function, &hasher.finalize(), size),
            State::Sha512(hasher) => Digest::from_array(function, &hasher.finalize(), size),
            State::Blake3(hasher) => Digest::from_array(function, hasher.finalize().as_bytes(), size),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        let hex = |function| Digest::of(function, b"abc").hash_hex();
        assert_eq!(
            hex(DigestFunction::Sha256),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(hex(DigestFunction::Sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(hex(DigestFunction::Md5), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(
            hex(DigestFunction::Blake3),
            "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
        );
        assert!(hex(DigestFunction::Sha384).starts_with("cb00753f45a35e8bb5a03d699ac65007"));
        assert!(hex(DigestFunction::Sha512).starts_with("ddaf35a193617abacc417349ae204131"));
    }

    #[test]
    fn pieces_make_the_same_digest_as_the_whole() {
        let content = [42; 10_000];
        for function in DigestFunction::ALL {
            let mut hasher = Hasher::new(function);
            content.chunks(77).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.finish(), Digest::of(function, &content));
        }
    }
}
