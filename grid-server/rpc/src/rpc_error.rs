//! [`RpcError`]: what can be wrong with a request before any core crate sees it.
//!
//! Neighbours: the core crates have error enums of their own; all of them reach the wire through
//! [`crate::error`]. This one refuses to carry a core crate's trouble.

use std::time::Duration;

use grid_core::{Coded, DigestError, ErrorCode, InstanceNameError, Violation};
use thiserror::Error;

/// Why a request was refused at the edge. Every message is fit for clients.
#[derive(Clone, Debug, Error)]
pub enum RpcError {
    /// A field has a value that it can't have.
    #[error("{field}: {problem}")]
    Field {
        /// The field's path in the request, as the protocol spells it.
        field: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A digest in the request is malformed.
    #[error("{field}: {source}")]
    Digest {
        /// The field's path in the request.
        field: &'static str,
        /// What is wrong with it.
        source: DigestError,
    },
    /// The text can't name an instance at all.
    #[error(transparent)]
    InstanceName(#[from] InstanceNameError),
    /// No instance of this name has the service.
    #[error("instance {name:?} does not exist, or has no {service} service")]
    UnknownInstance {
        /// The name that was asked for, shortened.
        name: String,
        /// The service, in the protocol's spelling.
        service: &'static str,
    },
    /// A thing named in the request is not there.
    #[error("{0} not found")]
    NotFound(String),
    /// The thing is there already, and differs.
    #[error("{0}")]
    AlreadyExists(String),
    /// The protocol's state does not allow the call just now (an offset that is not the committed size).
    #[error("{0}")]
    Precondition(String),
    /// Something the request builds on is not there; the client can supply it.
    #[error("{message}")]
    Missing {
        /// What the request was for.
        message: String,
        /// One violation for each thing that is missing.
        violations: Vec<Violation>,
    },
    /// An offset past the end.
    #[error("{0}")]
    OutOfRange(String),
    /// A limit of the server or of the caller.
    #[error("{message}")]
    Limit {
        /// Which limit, its value, and what to do.
        message: String,
        /// Whose limit it is, such as `subject:ci` or `instance:main`.
        subject: String,
        /// When trying again can help.
        retry_after: Option<Duration>,
    },
    /// The caller may not do this.
    #[error("{0}")]
    PermissionDenied(String),
    /// The caller is not known.
    #[error("{0}")]
    Unauthenticated(String),
    /// The server, or this instance, does not do this.
    #[error("{0}")]
    Unimplemented(String),
    /// The client stopped in the middle of its request.
    #[error("the request ended before it was complete: {0}")]
    Cancelled(String),
    /// A dependency is away.
    #[error("{0}")]
    Unavailable(String),
    /// The caller's time, or the server's bound on one call, ran out.
    #[error("{0}")]
    Deadline(String),
    /// Stored data can't be what it should be.
    #[error("{0}")]
    DataLoss(String),
    /// A defect of ours; the text is for the log.
    #[error("internal error: {0}")]
    Internal(String),
}

impl RpcError {
    /// A field whose value can't be right.
    #[must_use]
    pub fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Field { field: field.into(), problem: problem.into() }
    }
}

impl Coded for RpcError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Field { .. }
            | Self::Digest { .. }
            | Self::InstanceName(_)
            | Self::UnknownInstance { .. } => ErrorCode::InvalidArgument,
            Self::NotFound(_) => ErrorCode::NotFound,
            Self::AlreadyExists(_) => ErrorCode::AlreadyExists,
            Self::Precondition(_) | Self::Missing { .. } => ErrorCode::FailedPrecondition,
            Self::OutOfRange(_) => ErrorCode::OutOfRange,
            Self::Limit { .. } => ErrorCode::ResourceExhausted,
            Self::PermissionDenied(_) => ErrorCode::PermissionDenied,
            Self::Unauthenticated(_) => ErrorCode::Unauthenticated,
            Self::Unimplemented(_) => ErrorCode::Unimplemented,
            Self::Cancelled(_) => ErrorCode::Cancelled,
            Self::Unavailable(_) => ErrorCode::Unavailable,
            Self::Deadline(_) => ErrorCode::DeadlineExceeded,
            Self::DataLoss(_) => ErrorCode::DataLoss,
            Self::Internal(_) => ErrorCode::Internal,
        }
    }

    fn client_message(&self) -> String {
        match self {
            Self::Internal(_) => "internal error; see the server's log".into(),
            other => other.to_string(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limit { retry_after, .. } => *retry_after,
            Self::Unavailable(_) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    fn violations(&self) -> Vec<Violation> {
        let one = |kind: &str, subject: &str, description: String| {
            vec![Violation { kind: kind.into(), subject: subject.into(), description }]
        };
        match self {
            Self::Field { field, problem } => one("FIELD", field, problem.clone()),
            Self::Digest { field, source } => one("FIELD", field, source.to_string()),
            Self::InstanceName(error) => one("FIELD", "instance_name", error.to_string()),
            Self::UnknownInstance { .. } => one("FIELD", "instance_name", self.to_string()),
            Self::Limit { message, subject, .. } => one("QUOTA", subject, message.clone()),
            Self::Missing { violations, .. } => violations.clone(),
            _ => Vec::new(),
        }
    }
}
