//! [`ErrorCode`]: the one closed list of what can go wrong, as callers are told it.
//!
//! Each component has an error enum of its own and implements [`Coded`] for it; the mapping to a protocol's
//! status codes stands in one file at that protocol's edge.

use std::time::Duration;

/// What kind of failure it is, and so what a caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request is malformed: the same request can never succeed.
    InvalidArgument,
    /// The thing asked for is not there.
    NotFound,
    /// The thing to be made is there already, with other content.
    AlreadyExists,
    /// The caller is known, and may not do this.
    PermissionDenied,
    /// The caller is not known.
    Unauthenticated,
    /// A limit of the caller or of the server is reached.
    ResourceExhausted,
    /// The request is sound, but something it needs is not in place; see the violations.
    FailedPrecondition,
    /// A concurrent change won; the caller starts over at a higher level.
    Aborted,
    /// An offset past the end.
    OutOfRange,
    /// The server does not do this.
    Unimplemented,
    /// A dependency is away: the same request can succeed later.
    Unavailable,
    /// The deadline passed.
    DeadlineExceeded,
    /// The caller went away.
    Cancelled,
    /// Content was lost or damaged.
    DataLoss,
    /// A defect of ours.
    Internal,
}

impl ErrorCode {
    /// Whether the same request can succeed later without anybody doing anything.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::ResourceExhausted | Self::Aborted)
    }
}

/// One thing that stands in the way of a request: a `PreconditionFailure` violation or a bad field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its type; for a blob that is not there, REAPI wants `MISSING`.
    pub kind: String,
    /// What it is about: `blobs/HASH/SIZE` for a blob, a field's path for a field.
    pub subject: String,
    /// What is wrong and what to do.
    pub description: String,
}

/// An error that knows how to present itself to a caller.
///
/// `Display` is for logs and may name hosts and paths; [`Coded::client_message`] is what leaves the process.
pub trait Coded: std::error::Error {
    /// Which kind of failure it is.
    fn code(&self) -> ErrorCode;

    /// The text for the caller: free of secrets and of details that only an operator can use.
    fn client_message(&self) -> String {
        self.to_string()
    }

    /// When to try again, where trying again can help.
    fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// What stands in the way, item by item.
    fn violations(&self) -> Vec<Violation> {
        Vec::new()
    }
}
