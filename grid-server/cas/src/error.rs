//! [`StoreError`]: what can go wrong with a blob, in terms that both a caller and an operator can use.

use std::sync::Arc;
use std::time::Duration;

use grid_core::{Coded, Digest, ErrorCode, Violation};
use thiserror::Error;

/// Why a store did not do what it was asked.
///
/// `backend` is the backend's place in the configuration with its address, free of secrets, such as
/// `storages[0] !s3-storage (https://s3.example/bucket)`: for logs; clients are told only what they can use.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// The blob is not there.
    #[error("blob {0} not found")]
    NotFound(Digest),
    /// The content's hash is another than the digest says.
    #[error("content does not match its digest: expected {expected}, got {actual}")]
    DigestMismatch {
        /// The digest that the blob was announced with.
        expected: Digest,
        /// The digest that the content has.
        actual: Digest,
    },
    /// More or fewer bytes than the digest says.
    #[error("content of {expected} has {actual} bytes")]
    SizeMismatch {
        /// The digest that the blob was announced with.
        expected: Digest,
        /// How many bytes came, or how many had come when there were too many.
        actual: u64,
    },
    /// The offset is past the blob's end.
    #[error("offset {offset} is past the end of blob {digest}")]
    OutOfRange {
        /// The blob.
        digest: Digest,
        /// The offset asked for, in bytes.
        offset: u64,
    },
    /// The blob is larger than this store takes.
    #[error("blob {digest} is larger than the limit of {limit} bytes of {backend}")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// The limit in bytes.
        limit: u64,
        /// Which backend.
        backend: Arc<str>,
    },
    /// The store takes no writes.
    #[error("this storage is read-only")]
    ReadOnly,
    /// The one who was sending the content stopped in the middle.
    #[error("the content's sender stopped: {0}")]
    Interrupted(Arc<str>),
    /// The content's framing or encoding is malformed (compressed garbage, a bomb).
    #[error("malformed content: {0}")]
    Malformed(Arc<str>),
    /// The backend does not answer, or says to come back later.
    #[error("{backend} is not available: {message}")]
    Unavailable {
        /// Which backend.
        backend: Arc<str>,
        /// What it said, without secrets.
        message: String,
        /// When to try again, where it is known.
        retry_after: Option<Duration>,
    },
    /// The backend refuses us for good until someone changes something (credentials, bucket, permissions).
    #[error("{backend} refuses: {message}")]
    Refused {
        /// Which backend.
        backend: Arc<str>,
        /// What it said, and what to change.
        message: String,
    },
    /// The backend has no room.
    #[error("{backend} is full: {message}")]
    Full {
        /// Which backend.
        backend: Arc<str>,
        /// What it said.
        message: String,
    },
    /// What the backend holds under this digest is not the blob.
    #[error("{backend} holds damaged content for blob {digest}")]
    Corrupt {
        /// The blob.
        digest: Digest,
        /// Which backend.
        backend: Arc<str>,
    },
    /// A defect of ours.
    #[error("internal error in {backend}: {message}")]
    Internal {
        /// Which backend.
        backend: Arc<str>,
        /// What happened.
        message: String,
    },
}

impl Coded for StoreError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound(_) | Self::Corrupt { .. } => ErrorCode::NotFound,
            Self::DigestMismatch { .. }
            | Self::SizeMismatch { .. }
            | Self::TooLarge { .. }
            | Self::Malformed(_) => ErrorCode::InvalidArgument,
            Self::OutOfRange { .. } => ErrorCode::OutOfRange,
            Self::ReadOnly => ErrorCode::PermissionDenied,
            Self::Interrupted(_) => ErrorCode::Cancelled,
            Self::Unavailable { .. } => ErrorCode::Unavailable,
            Self::Full { .. } => ErrorCode::ResourceExhausted,
            Self::Refused { .. } | Self::Internal { .. } => ErrorCode::Internal,
        }
    }

    fn client_message(&self) -> String {
        match self {
            Self::TooLarge { digest, limit, .. } => {
                format!("blob {digest} is larger than this instance's limit of {limit} bytes")
            }
            Self::Unavailable { .. } => "storage is not available just now".into(),
            Self::Full { .. } => "storage is full".into(),
            Self::Corrupt { digest, .. } => format!("blob {digest} not found"),
            Self::Refused { .. } | Self::Internal { .. } => {
                "internal storage error; see the server's log".into()
            }
            other => other.to_string(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => Some(retry_after.unwrap_or(Duration::from_secs(1))),
            Self::Full { .. } => Some(Duration::from_secs(30)),
            _ => None,
        }
    }

    fn violations(&self) -> Vec<Violation> {
        let one = |kind: &str, subject: &str| {
            vec![Violation { kind: kind.into(), subject: subject.into(), description: self.client_message() }]
        };
        match self {
            Self::NotFound(digest) | Self::Corrupt { digest, .. } => vec![missing(digest)],
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } | Self::TooLarge { .. } => {
                one("FIELD", "digest")
            }
            Self::Malformed(_) => one("FIELD", "data"),
            Self::Full { .. } => one("QUOTA", "storage"),
            Self::OutOfRange { .. }
            | Self::ReadOnly
            | Self::Interrupted(_)
            | Self::Unavailable { .. }
            | Self::Refused { .. }
            | Self::Internal { .. } => Vec::new(),
        }
    }
}

/// The violation that makes clients upload a blob again (REAPI, `Execute`: type `MISSING`).
#[must_use]
pub fn missing(digest: &Digest) -> Violation {
    Violation {
        kind: "MISSING".into(),
        subject: format!("blobs/{digest}"),
        description: format!("blob {digest} is not in the storage; upload it again"),
    }
}
