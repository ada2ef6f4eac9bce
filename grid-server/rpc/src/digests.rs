//! Digests and digest functions between their wire form and the core's.
//!
//! A request may leave its digest function out where the hash's length tells it (REAPI, `digest_function`
//! fields); the function of the whole request is then told by each digest. Functions that an instance does not
//! advertise are refused by name.

use grid_core::{Digest, DigestFunction};
use grid_proto::reapi;

use crate::RpcError;

/// The digest functions that an instance takes, in the order in which it advertises them.
pub type Functions = std::sync::Arc<[DigestFunction]>;

/// Every function that the server can compute.
#[must_use]
pub fn all_functions() -> Functions {
    DigestFunction::ALL.into()
}

/// How to read the digests of one request.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    named: Option<DigestFunction>,
    accepted: &'a [DigestFunction],
}

impl<'a> Reader<'a> {
    /// A reader for a request whose `digest_function` field has the value `wire`.
    ///
    /// # Errors
    /// [`RpcError::Field`] for a function that the instance does not take.
    pub fn new(wire: i32, accepted: &'a [DigestFunction]) -> Result<Self, RpcError> {
        if wire == 0 {
            return Ok(Self { named: None, accepted });
        }
        let named = DigestFunction::from_wire(wire).filter(|f| accepted.contains(f));
        if named.is_none() {
            let name = reapi::digest_function::Value::try_from(wire)
                .map_or_else(|_| wire.to_string(), |v| v.as_str_name().to_owned());
            return Err(unsupported("digest_function", &name, accepted));
        }
        Ok(Self { named, accepted })
    }

    /// The digest in a field that must be set.
    ///
    /// # Errors
    /// [`RpcError::Field`] where it is not set; [`RpcError::Digest`] where it is malformed.
    pub fn required(&self, field: &'static str, wire: Option<&reapi::Digest>) -> Result<Digest, RpcError> {
        match wire {
            Some(digest) => self.read(field, digest),
            None => Err(RpcError::field(field, "is not set; a digest is required")),
        }
    }

    /// A digest that is there.
    ///
    /// # Errors
    /// [`RpcError::Digest`] where it is malformed; [`RpcError::Field`] where its hash's length tells a function
    /// that the instance does not take.
    #[inline]
    pub fn read(&self, field: &'static str, wire: &reapi::Digest) -> Result<Digest, RpcError> {
        let digest = Digest::parse_inferring(self.named, &wire.hash, wire.size_bytes)
            .map_err(|source| RpcError::Digest { field, source })?;
        if self.named.is_none() && !self.accepted.contains(&digest.function()) {
            return Err(unsupported(field, digest.function().name(), self.accepted));
        }
        Ok(digest)
    }

    /// The function that the request names, or the one that `digest` shows.
    #[must_use]
    pub fn function(&self, digest: &Digest) -> DigestFunction {
        self.named.unwrap_or_else(|| digest.function())
    }
}

#[cold]
fn unsupported(field: &str, name: &str, accepted: &[DigestFunction]) -> RpcError {
    let accepted: Vec<_> = accepted.iter().map(|f| f.name()).collect();
    RpcError::field(field, format!("{name} is not supported here; use one of {}", accepted.join(", ")))
}

/// A digest as messages carry it.
#[must_use]
pub fn to_wire(digest: &Digest) -> reapi::Digest {
    reapi::Digest { hash: digest.hash_hex(), size_bytes: digest.size_signed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(hash_len: usize) -> reapi::Digest {
        reapi::Digest { hash: "a".repeat(hash_len), size_bytes: 3 }
    }

    #[test]
    fn the_function_is_told_by_the_length_unless_named() {
        let functions = all_functions();
        let infer = Reader::new(0, &functions).unwrap();
        assert_eq!(infer.read("d", &wire(64)).unwrap().function(), DigestFunction::Sha256);
        assert_eq!(infer.read("d", &wire(96)).unwrap().function(), DigestFunction::Sha384);
        let named = Reader::new(DigestFunction::Blake3.to_wire(), &functions).unwrap();
        assert_eq!(named.read("d", &wire(64)).unwrap().function(), DigestFunction::Blake3);
        assert!(named.read("d", &wire(96)).is_err());
    }

    #[test]
    fn functions_that_are_not_advertised_are_refused() {
        let only = [DigestFunction::Sha256];
        for value in [DigestFunction::Md5.to_wire(), 4, 7, 8, 10, 99, -1] {
            assert!(Reader::new(value, &only).is_err(), "{value}");
        }
        assert!(Reader::new(0, &only).unwrap().read("d", &wire(32)).is_err());
    }

    #[test]
    fn an_unset_digest_names_its_field() {
        let functions = all_functions();
        let error = Reader::new(0, &functions).unwrap().required("action_digest", None).unwrap_err();
        assert!(error.to_string().starts_with("action_digest"));
    }
}
