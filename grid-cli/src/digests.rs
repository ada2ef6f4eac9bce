//! Digests between the command line, the wire and the core.

use grid_core::{Digest, DigestFunction};
use grid_proto::reapi;

use crate::exit::Failure;

/// `digest` as messages carry it.
pub(crate) fn to_wire(digest: &Digest) -> reapi::Digest {
    reapi::Digest { hash: digest.hash_hex(), size_bytes: digest.size_signed() }
}

/// The digest that a server sent.
pub(crate) fn from_wire(function: DigestFunction, digest: &reapi::Digest) -> Result<Digest, Failure> {
    Digest::parse(function, &digest.hash, digest.size_bytes).map_err(|error| {
        Failure::Protocol(format!("malformed digest {}/{}: {error}", digest.hash, digest.size_bytes))
    })
}

/// The digest that a server should have sent as `what`.
pub(crate) fn required(
    function: DigestFunction,
    digest: Option<&reapi::Digest>,
    what: &str,
) -> Result<Digest, Failure> {
    let digest = digest.ok_or_else(|| Failure::Protocol(format!("{what} has no digest")))?;
    from_wire(function, digest)
}

/// The digest that the user gave as `HASH/SIZE`.
pub(crate) fn from_argument(function: DigestFunction, text: &str) -> Result<Digest, Failure> {
    Digest::parse_text(Some(function), text)
        .map_err(|error| Failure::Usage(format!("digest {text:?}: {error}; expected HASH/SIZE")))
}

/// `digest` for people, who copy it to a next command line.
pub(crate) fn text(digest: Option<&reapi::Digest>) -> String {
    digest.map_or_else(|| "-".to_owned(), |digest| format!("{}/{}", digest.hash, digest.size_bytes))
}
