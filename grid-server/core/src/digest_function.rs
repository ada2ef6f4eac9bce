//! The digest functions of REAPI that this server can compute.
//!
//! Neighbours: [`crate::Hasher`] computes them, [`crate::Digest`] carries which one it is of. The tree-shaped
//! functions (SHA256TREE, GITSHA1, VSO, MURMUR3) are refused here, not half-supported elsewhere.

use std::fmt;

/// A hash function that can name blobs. The discriminants are those of `DigestFunction.Value` in REAPI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum DigestFunction {
    /// SHA-256: the function every client speaks.
    #[default]
    Sha256 = 1,
    /// SHA-1, 20 bytes.
    Sha1 = 2,
    /// MD5, 16 bytes.
    Md5 = 3,
    /// SHA-384, 48 bytes.
    Sha384 = 5,
    /// SHA-512, 64 bytes.
    Sha512 = 6,
    /// BLAKE3 with its default output of 32 bytes.
    Blake3 = 9,
}

impl DigestFunction {
    /// Every function, in the order in which they are advertised.
    pub const ALL: [Self; 6] =
        [Self::Sha256, Self::Blake3, Self::Sha1, Self::Sha384, Self::Sha512, Self::Md5];

    /// The length of a hash, in bytes.
    #[must_use]
    pub const fn hash_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Blake3 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The function with this number in REAPI's `DigestFunction.Value`; `None` for unknown and unsupported ones.
    #[must_use]
    pub fn from_wire(value: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.to_wire() == value)
    }

    /// The number in REAPI's `DigestFunction.Value`.
    #[must_use]
    pub const fn to_wire(self) -> i32 {
        self as i32
    }

    /// The function that a hash of `bytes` bytes means where a client names none.
    ///
    /// REAPI lets clients leave the function out where the length tells it. 32 bytes then mean SHA-256; BLAKE3
    /// must always be named.
    #[must_use]
    pub const fn from_hash_len(bytes: usize) -> Option<Self> {
        match bytes {
            16 => Some(Self::Md5),
            20 => Some(Self::Sha1),
            32 => Some(Self::Sha256),
            48 => Some(Self::Sha384),
            64 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The lower-case name used in `ByteStream` resource names, configuration and on-store keys.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha1 => "sha1",
            Self::Md5 => "md5",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
            Self::Blake3 => "blake3",
        }
    }

    /// The function of this lower-case name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name() == name)
    }
}

impl fmt::Display for DigestFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_numbers_and_names_round_trip() {
        for function in DigestFunction::ALL {
            assert_eq!(DigestFunction::from_wire(function.to_wire()), Some(function));
            assert_eq!(DigestFunction::from_name(function.name()), Some(function));
        }
        assert_eq!(DigestFunction::from_wire(0), None);
        assert_eq!(DigestFunction::from_wire(8), None, "SHA256TREE is not supported");
    }

    #[test]
    fn thirty_two_bytes_without_a_name_are_sha256() {
        assert_eq!(DigestFunction::from_hash_len(32), Some(DigestFunction::Sha256));
        assert_eq!(DigestFunction::from_hash_len(31), None);
    }
}
