//! The names of blobs in Redis: BuildGrid's `{hash}_{size}` for SHA-256; a function's name and a colon stand before it
//! for others. What uses a server beside others puts a prefix before that.

use grid_core::{Digest, DigestFunction};

/// A blob's key.
#[must_use]
pub fn of_blob(digest: &Digest) -> String {
    match digest.function() {
        DigestFunction::Sha256 => format!("{}_{}", digest.hash_hex(), digest.size()),
        function => format!("{function}:{}_{}", digest.hash_hex(), digest.size()),
    }
}

/// A blob's key after `prefix` and a colon.
#[must_use]
pub fn prefixed(prefix: &str, digest: &Digest) -> String {
    format!("{prefix}:{}", of_blob(digest))
}

/// The blob whose key this is; `None` for a key that is no blob's.
#[must_use]
pub fn to_blob(key: &str) -> Option<Digest> {
    let (function, rest) = match key.split_once(':') {
        Some((name, rest)) => (DigestFunction::from_name(name)?, rest),
        None => (DigestFunction::Sha256, key),
    };
    let (hash, size) = rest.rsplit_once('_')?;
    let digest = Digest::parse(function, hash, size.parse().ok()?).ok()?;
    (of_blob(&digest) == key).then_some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_blob() {
        for function in DigestFunction::ALL {
            let digest = Digest::of(function, b"hello");
            assert_eq!(to_blob(&of_blob(&digest)), Some(digest));
        }
        let digest = Digest::of(DigestFunction::Sha256, b"hello");
        assert_eq!(of_blob(&digest), format!("{}_5", digest.hash_hex()));
        assert_eq!(prefixed("A", &digest), format!("A:{}_5", digest.hash_hex()));
        for stranger in
            ["", "total_size", "A:total_size", "sha256:abc_5", &format!("{}_05", digest.hash_hex())]
        {
            assert_eq!(to_blob(stranger), None, "{stranger}");
        }
    }
}
