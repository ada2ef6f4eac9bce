//! [`Digest`]: the identity of a blob. Digest function, hash and size together; two blobs that differ in any
//! of the three are different blobs in every backend.

use std::fmt;
use std::hash::{Hash, Hasher as StdHasher};

use bytes::Bytes;
use thiserror::Error;

use crate::{DigestFunction, Hasher};

const MAX_HASH_LEN: usize = 64;

/// The name of a blob: which function, its hash, and the blob's size in bytes.
///
/// It is `Copy` and holds no allocation, since a single call names thousands of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest {
    // Bytes past `function.hash_len()` are zero, so that derived comparison is right.
    hash: [u8; MAX_HASH_LEN],
    size: u64,
    function: DigestFunction,
}

/// Why text is not a digest. The message is fit for clients.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DigestError {
    /// The hash has a length that no supported function has, or not the one of the named function.
    #[error("hash {hash:?} has {} characters; {function} hashes have {expected}", hash.len())]
    HashLength {
        /// The text given, cut to a length fit for a message.
        hash: String,
        /// The function's name, or "supported" where none was named.
        function: &'static str,
        /// The length or lengths that would be right, in characters.
        expected: String,
    },
    /// The hash has a character that is not one of `0-9a-f`.
    #[error("hash {0:?} is not lower-case hexadecimal")]
    NotHex(String),
    /// The size is below zero.
    #[error("size {0} is negative")]
    NegativeSize(i64),
    /// The text is not `HASH/SIZE`.
    #[error("{0:?} is not of the form HASH/SIZE")]
    Form(String),
}

impl Digest {
    /// A digest from raw hash bytes.
    ///
    /// # Errors
    /// [`DigestError::HashLength`] where `hash` is not as long as `function`'s hashes.
    pub fn new(function: DigestFunction, hash: &[u8], size: u64) -> Result<Self, DigestError> {
        if hash.len() != function.hash_len() {
            return Err(length_error(&hex::encode(hash), Some(function)));
        }
        Ok(Self::from_array(function, hash, size))
    }

    /// A digest from a hash that is known to have the function's length: only [`Hasher`] can promise that.
    pub(crate) fn from_array(function: DigestFunction, hash: &[u8], size: u64) -> Self {
        let mut bytes = [0; MAX_HASH_LEN];
        bytes[..hash.len()].copy_from_slice(hash);
        Self { hash: bytes, size, function }
    }

    /// A digest as messages carry it: lower-case hexadecimal and a signed size.
    ///
    /// # Errors
    /// [`DigestError`] for upper case, other characters, a wrong length, a negative size.
    pub fn parse(function: DigestFunction, hash: &str, size: i64) -> Result<Self, DigestError> {
        let size = u64::try_from(size).map_err(|_| DigestError::NegativeSize(size))?;
        let text = hash.as_bytes();
        if text.len() != function.hash_len() * 2 {
            return Err(length_error(hash, Some(function)));
        }
        // The decoder takes upper case too.
        let upper = text.iter().any(u8::is_ascii_uppercase);
        let mut bytes = [0; MAX_HASH_LEN];
        if upper || hex::decode_to_slice(text, &mut bytes[..function.hash_len()]).is_err() {
            return Err(DigestError::NotHex(shorten(hash)));
        }
        Ok(Self { hash: bytes, size, function })
    }

    /// As [`Digest::parse`], with the function told by the hash's length where `function` is `None`.
    ///
    /// # Errors
    /// As [`Digest::parse`].
    pub fn parse_inferring(
        function: Option<DigestFunction>,
        hash: &str,
        size: i64,
    ) -> Result<Self, DigestError> {
        let function = match function {
            Some(function) => function,
            None if hash.len().is_multiple_of(2) => {
                DigestFunction::from_hash_len(hash.len() / 2).ok_or_else(|| length_error(hash, None))?
            }
            None => return Err(length_error(hash, None)),
        };
        Self::parse(function, hash, size)
    }

    /// A digest from the text `HASH/SIZE`.
    ///
    /// # Errors
    /// [`DigestError::Form`] and those of [`Digest::parse`].
    pub fn parse_text(function: Option<DigestFunction>, text: &str) -> Result<Self, DigestError> {
        let form = || DigestError::Form(shorten(text));
        let (hash, size) = text.split_once('/').ok_or_else(form)?;
        Self::parse_inferring(function, hash, size.parse().map_err(|_| form())?)
    }

    /// The digest of `content`.
    #[must_use]
    pub fn of(function: DigestFunction, content: &[u8]) -> Self {
        let mut hasher = Hasher::new(function);
        hasher.update(content);
        hasher.finish()
    }

    /// The hash's bytes.
    #[must_use]
    pub fn hash_bytes(&self) -> &[u8] {
        &self.hash[..self.function.hash_len()]
    }

    /// The hash in lower-case hexadecimal.
    #[must_use]
    pub fn hash_hex(&self) -> String {
        hex::encode(self.hash_bytes())
    }

    /// The blob's size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The size as messages carry it.
    #[must_use]
    pub fn size_signed(&self) -> i64 {
        i64::try_from(self.size).unwrap_or(i64::MAX)
    }

    /// The function that the hash is of.
    #[must_use]
    pub const fn function(&self) -> DigestFunction {
        self.function
    }

    /// Whether this names the empty blob: it is always present and never stored (REAPI, `FindMissingBlobs`).
    #[must_use]
    pub fn is_empty_blob(&self) -> bool {
        self.size == 0 && *self == Self::of(self.function, &[])
    }

    /// Whether `content` is the blob that this names.
    #[must_use]
    pub fn matches(&self, content: &Bytes) -> bool {
        content.len() as u64 == self.size && Self::of(self.function, content) == *self
    }
}

fn length_error(hash: &str, function: Option<DigestFunction>) -> DigestError {
    let (name, expected) = function.map_or_else(
        || ("supported", "32, 40, 64, 96 or 128".to_owned()),
        |f| (f.name(), (f.hash_len() * 2).to_string()),
    );
    DigestError::HashLength { hash: shorten(hash), function: name, expected }
}

/// Text for a message: no longer than a long hash, cut at a character's boundary.
fn shorten(text: &str) -> String {
    text.chars().take(MAX_HASH_LEN * 2).collect()
}

impl Hash for Digest {
    // All of the hash: clients choose the digests that they send, and could make a part of it collide at will.
    fn hash<H: StdHasher>(&self, state: &mut H) {
        state.write(self.hash_bytes());
        state.write_u64(self.size);
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.hash_hex(), self.size)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.function)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_empty_blob_is_known() {
        for function in DigestFunction::ALL {
            assert!(Digest::of(function, b"").is_empty_blob());
        }
        let forged = Digest::new(DigestFunction::Sha256, &[7; 32], 0).unwrap();
        assert!(!forged.is_empty_blob());
    }

    #[test]
    fn malformed_text_is_refused_with_its_reason() {
        let parse = |hash: &str, size| Digest::parse(DigestFunction::Sha256, hash, size);
        let good = "a".repeat(64);
        assert!(parse(&good, 1).is_ok());
        assert!(matches!(parse(&good.to_uppercase(), 1), Err(DigestError::NotHex(_))));
        assert!(matches!(parse(&good[1..], 1), Err(DigestError::HashLength { .. })));
        assert!(matches!(parse(&good, -1), Err(DigestError::NegativeSize(-1))));
        assert!(matches!(parse(&"é".repeat(32), 1), Err(DigestError::NotHex(_))));
        assert!(matches!(Digest::parse_text(None, &good), Err(DigestError::Form(_))));
        assert!(matches!(Digest::parse_inferring(None, "abc", 1), Err(DigestError::HashLength { .. })));
    }

    #[test]
    fn the_function_is_part_of_the_identity() {
        let sha = Digest::new(DigestFunction::Sha256, &[1; 32], 5).unwrap();
        let blake = Digest::new(DigestFunction::Blake3, &[1; 32], 5).unwrap();
        assert_ne!(sha, blake);
    }

    proptest! {
        #[test]
        fn text_round_trips(content: Vec<u8>, index in 0..DigestFunction::ALL.len()) {
            let function = DigestFunction::ALL[index];
            let digest = Digest::of(function, &content);
            prop_assert_eq!(Digest::parse_text(Some(function), &digest.to_string()), Ok(digest));
            prop_assert!(digest.matches(&Bytes::from(content)));
        }

        #[test]
        fn parsing_never_panics(text in ".{0,200}") {
            let _ = Digest::parse_text(None, &text);
        }
    }
}
