//! Packing of messages into `google.protobuf.Any` and back.
//!
//! `Operation.response`, lease payloads and status details travel this way. Only the full name
//! behind the last slash of the type URL decides which message it is, as the protobuf
//! specification says; what a mismatch means to the caller is the caller's to say.

use prost::Name;
use prost_types::Any;

/// Why an [`Any`] did not give the message that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// It carries another type.
    #[error("expected a packed {expected}, found type URL {found:?}")]
    Type {
        /// Full name of the message that was expected.
        expected: String,
        /// The type URL that was found.
        found: String,
    },
    /// It claims the right type, but its bytes are not a valid encoding of it.
    #[error("the packed {expected} cannot be decoded: {reason}")]
    Malformed {
        /// Full name of the message that was expected.
        expected: String,
        /// What the decoder says.
        reason: String,
    },
}

/// Packs `message` under `type.googleapis.com/<full name>`, the form every known client expects.
pub fn pack<M: Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// Whether `any` claims to hold an `M`.
pub fn is<M: Name>(any: &Any) -> bool {
    // A type URL needs a slash: a bare name is no URL, and other implementations refuse it too.
    any.type_url.rsplit_once('/').is_some_and(|(_, name)| name == M::full_name())
}

/// Decodes the `M` that `any` holds.
///
/// # Errors
/// [`UnpackError::Type`] when it holds another message, [`UnpackError::Malformed`] when its bytes
/// cannot be decoded.
pub fn unpack<M: Name + Default>(any: &Any) -> Result<M, UnpackError> {
    if !is::<M>(any) {
        return Err(UnpackError::Type { expected: M::full_name(), found: any.type_url.clone() });
    }
    M::decode(any.value.as_slice())
        .map_err(|error| UnpackError::Malformed { expected: M::full_name(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reapi::{Action, Digest};

    fn digest() -> Digest {
        Digest { hash: "ab".repeat(32), size_bytes: 7 }
    }

    #[test]
    fn packs_under_the_type_url_that_clients_expect() {
        let any = pack(&digest());
        assert_eq!(any.type_url, "type.googleapis.com/build.bazel.remote.execution.v2.Digest");
        assert_eq!(unpack::<Digest>(&any), Ok(digest()));
    }

    #[test]
    fn only_the_name_after_the_last_slash_counts() {
        let mut any = pack(&digest());
        any.type_url = "example.org/some/path/build.bazel.remote.execution.v2.Digest".to_owned();
        assert_eq!(unpack::<Digest>(&any), Ok(digest()));
        any.type_url = "build.bazel.remote.execution.v2.Digest".to_owned();
        assert!(unpack::<Digest>(&any).is_err());
    }

    #[test]
    fn another_type_and_broken_bytes_are_told_apart() {
        let any = pack(&digest());
        let error = unpack::<Action>(&any).unwrap_err();
        assert!(matches!(&error, UnpackError::Type { expected, found }
            if expected.ends_with("v2.Action") && found.ends_with("v2.Digest")));

        let broken = Any { value: vec![0x0a, 0xff], ..any };
        let error = unpack::<Digest>(&broken).unwrap_err();
        assert!(matches!(error, UnpackError::Malformed { .. }));
    }
}
