//! [`Checksum`]: the `checksum.sri` qualifier, which pins an asset's content (W3C Subresource Integrity).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use grid_core::{DigestFunction, Hasher};

use crate::RpcError;

/// The longest value that is looked at, in bytes.
const MAX_LENGTH: usize = 4096;
/// Algorithms from the weakest to the strongest; what is weaker than these pins nothing.
const ALGORITHMS: [DigestFunction; 4] =
    [DigestFunction::Sha256, DigestFunction::Blake3, DigestFunction::Sha384, DigestFunction::Sha512];

/// Hashes of one algorithm; content with any of them is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checksum {
    pub(super) function: DigestFunction,
    hashes: Vec<Vec<u8>>,
}

impl Checksum {
    /// Reads the value of a `checksum.sri` qualifier: as in HTML, the strongest algorithm that it names decides.
    pub(super) fn parse(value: &str) -> Result<Self, RpcError> {
        if value.len() > MAX_LENGTH {
            return Err(wrong(&format!("has {} bytes; at most {MAX_LENGTH} are taken", value.len())));
        }
        let mut found: Vec<(usize, Vec<u8>)> = Vec::new();
        for word in value.split_ascii_whitespace() {
            found.extend(hash(word)?);
        }
        let Some(strongest) = found.iter().map(|(rank, _)| *rank).max() else {
            return Err(wrong("holds no sha256, sha384, sha512 or blake3 hash, as in sha256-BASE64"));
        };
        let hashes = found.into_iter().filter(|(rank, _)| *rank == strongest).map(|(_, hash)| hash).collect();
        Ok(Self { function: ALGORITHMS[strongest], hashes })
    }

    /// Whether content with this hash, by the checksum's algorithm, is right.
    pub(super) fn takes(&self, hash: &[u8]) -> bool {
        self.hashes.iter().any(|right| right == hash)
    }

    /// The hashes, each in the one form in which it is remembered.
    pub(super) fn canonical(&self) -> impl Iterator<Item = String> {
        self.hashes.iter().map(|hash| canonical(self.function, hash))
    }
}

/// A hash in the form in which it is remembered.
pub(super) fn canonical(function: DigestFunction, hash: &[u8]) -> String {
    format!("{}-{}", function.name(), STANDARD.encode(hash))
}

/// One `ALGORITHM-BASE64[?OPTIONS]`; `None` for an algorithm that isn't known here.
fn hash(word: &str) -> Result<Option<(usize, Vec<u8>)>, RpcError> {
    let (algorithm, rest) = word.split_once('-').ok_or_else(|| wrong("is not of the form sha256-BASE64"))?;
    let known = |function: &DigestFunction| function.name().eq_ignore_ascii_case(algorithm);
    let Some(rank) = ALGORITHMS.iter().position(known) else { return Ok(None) };
    let text = rest.split_once('?').map_or(rest, |(hash, _)| hash);
    let hash = STANDARD.decode(text).map_err(|error| wrong(&format!("is no base64: {error}")))?;
    let expected = ALGORITHMS[rank].hash_len();
    if hash.len() != expected {
        return Err(wrong(&format!("has {} bytes of {algorithm}; expected {expected}", hash.len())));
    }
    Ok(Some((rank, hash)))
}

fn wrong(problem: &str) -> RpcError {
    RpcError::field("qualifiers.value", format!("checksum.sri {problem}"))
}

/// Hashes content as it passes, by one algorithm or two.
#[derive(Debug)]
pub(super) struct Hashing {
    wanted: Hasher,
    checked: Option<Hasher>,
}

impl Hashing {
    /// A digest by `wanted`, and a hash by `checked` where that is another.
    pub(super) fn new(wanted: DigestFunction, checked: Option<DigestFunction>) -> Self {
        Self { wanted: Hasher::new(wanted), checked: checked.filter(|f| *f != wanted).map(Hasher::new) }
    }

    pub(super) fn update(&mut self, piece: &Bytes) {
        self.wanted.update(piece);
        if let Some(checked) = &mut self.checked {
            checked.update(piece);
        }
    }

    /// The digest, and the hash to compare with a checksum.
    pub(super) fn finish(self) -> (grid_core::Digest, Vec<u8>) {
        let digest = self.wanted.finish();
        let checked = self.checked.map_or(digest, Hasher::finish);
        (digest, checked.hash_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use grid_core::Digest;
    use proptest::prelude::*;

    use super::*;

    fn sri(function: DigestFunction, content: &[u8]) -> String {
        canonical(function, Digest::of(function, content).hash_bytes())
    }

    #[test]
    fn the_strongest_algorithm_decides() {
        let (weak, strong) = (sri(DigestFunction::Sha256, b"a"), sri(DigestFunction::Sha512, b"b"));
        let checksum = Checksum::parse(&format!(" {weak}  {strong}?opt md5-xx")).unwrap();
        assert_eq!(checksum.function, DigestFunction::Sha512);
        assert!(checksum.takes(Digest::of(DigestFunction::Sha512, b"b").hash_bytes()));
        assert!(!checksum.takes(Digest::of(DigestFunction::Sha512, b"a").hash_bytes()));
        assert_eq!(checksum.canonical().collect::<Vec<_>>(), [strong]);
    }

    #[test]
    fn any_hash_of_one_algorithm_will_do() {
        let both = format!("{} {}", sri(DigestFunction::Sha256, b"a"), sri(DigestFunction::Sha256, b"b"));
        let checksum = Checksum::parse(&both).unwrap();
        for content in [b"a", b"b"] {
            assert!(checksum.takes(Digest::of(DigestFunction::Sha256, content).hash_bytes()));
        }
    }

    #[test]
    fn what_pins_nothing_is_refused() {
        let long = "sha256-".repeat(1000);
        for value in ["", " ", "sha256", "sha256-AAAA", "sha256-!", "md5-1B2M2Y8AsgTpgAmY7PhCfg==", &long] {
            assert!(Checksum::parse(value).is_err(), "{value:.20}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(value in "(sha256|sha512|blake3|-|\\?| |[A-Za-z0-9+/=é]{0,50}){0,8}") {
            let _ = Checksum::parse(&value);
        }

        #[test]
        fn what_is_written_is_read(content in proptest::collection::vec(any::<u8>(), 0..40), rank in 0_usize..4) {
            let digest = Digest::of(ALGORITHMS[rank], &content);
            let checksum = Checksum::parse(&canonical(ALGORITHMS[rank], digest.hash_bytes())).unwrap();
            prop_assert!(checksum.takes(digest.hash_bytes()));
        }
    }
}
