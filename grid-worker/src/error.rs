//! [`WorkerError`]: why a lease could not be turned into a result, and what the scheduler is told.
//!
//! The one rule: a failure of the worker or of something it needs must never look like a result of the
//! action. So every error becomes a lease status, and the codes decide what the scheduler does: UNAVAILABLE
//! and INTERNAL mean "try elsewhere", the others are for the client.

use grid_core::Digest;
use grid_proto::any;
use grid_proto::rpc::precondition_failure::Violation;
use grid_proto::rpc::{PreconditionFailure, Status as LeaseStatus};
use thiserror::Error;
use tonic::Code;

/// A failure on the way from a lease to a result.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// Blobs that the action needs are not in the CAS.
    #[error("{} blobs that the action needs are not in the CAS, {} first", .0.len(), first(.0))]
    Missing(Vec<Digest>),
    /// The action, its command or its inputs are malformed, or its outputs can't be described.
    #[error("{0}")]
    Invalid(String),
    /// A call failed for longer than it is worth waiting for.
    #[error("{call}: {status}")]
    Remote {
        /// Which call.
        call: &'static str,
        /// What it ended with.
        status: Box<tonic::Status>,
    },
    /// The runner can't be reached or failed.
    #[error("the runner: {0}")]
    Runner(Box<tonic::Status>),
    /// Content that is not what its digest says.
    #[error("blob {digest} came with content of digest {found}")]
    Corrupt {
        /// What was asked for.
        digest: Box<Digest>,
        /// What came.
        found: Box<Digest>,
    },
    /// The worker's own disk failed or is full.
    #[error("{what}: {source}")]
    Local {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The inputs don't fit into the worker's cache.
    #[error(
        "the inputs hold {needed} bytes and this worker's cache {capacity}; give the pool a larger cache"
    )]
    TooLarge {
        /// Bytes of the inputs.
        needed: u64,
        /// Bytes of the cache.
        capacity: u64,
    },
    /// The worker leaves before the action is done.
    #[error("the worker is leaving; the action is given back")]
    GivenBack,
    /// A defect.
    #[error("{0}")]
    Internal(String),
}

fn first(digests: &[Digest]) -> String {
    digests.first().map_or_else(String::new, ToString::to_string)
}

impl WorkerError {
    /// An error of the local disk.
    pub fn local(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self::Local { what: what.into(), source: source.into() }
    }

    /// An error of a remote call.
    pub fn remote(call: &'static str, status: tonic::Status) -> Self {
        Self::Remote { call, status: Box::new(status) }
    }

    /// Content that is not what was asked for.
    #[must_use]
    pub fn corrupt(digest: Digest, found: Digest) -> Self {
        Self::Corrupt { digest: Box::new(digest), found: Box::new(found) }
    }

    /// The code that decides what becomes of the job.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Missing(_) => Code::FailedPrecondition,
            Self::Invalid(_) => Code::InvalidArgument,
            Self::Remote { status, .. } if status.code() == Code::InvalidArgument => Code::Internal,
            Self::Remote { .. } | Self::Runner(_) | Self::GivenBack => Code::Unavailable,
            Self::TooLarge { .. } => Code::ResourceExhausted,
            Self::Corrupt { .. } | Self::Local { .. } | Self::Internal(_) => Code::Internal,
        }
    }

    /// Whether the worker itself is at fault: enough of these in a row and it is unhealthy.
    #[must_use]
    pub const fn is_own_fault(&self) -> bool {
        matches!(self, Self::Runner(_) | Self::Local { .. } | Self::Internal(_))
    }

    /// The lease's status. Missing blobs are listed as REAPI wants it, so that clients upload them again.
    #[must_use]
    pub fn to_status(&self) -> LeaseStatus {
        let details = match self {
            Self::Missing(digests) => {
                vec![any::pack(&PreconditionFailure { violations: digests.iter().map(missing).collect() })]
            }
            _ => Vec::new(),
        };
        LeaseStatus { code: self.code().into(), message: self.to_string(), details }
    }
}

fn missing(digest: &Digest) -> Violation {
    Violation { r#type: "MISSING".to_owned(), subject: format!("blobs/{digest}"), description: String::new() }
}

#[cfg(test)]
mod tests {
    use grid_core::DigestFunction;

    use super::*;

    #[test]
    fn missing_blobs_are_named_one_by_one() {
        let digests = [b"a", b"b"].map(|c| Digest::of(DigestFunction::Sha256, c));
        let status = WorkerError::Missing(digests.to_vec()).to_status();
        assert_eq!(status.code, Code::FailedPrecondition as i32);
        let failure: PreconditionFailure = any::unpack(&status.details[0]).unwrap();
        let subjects: Vec<_> = failure.violations.iter().map(|v| v.subject.clone()).collect();
        assert_eq!(subjects, digests.map(|d| format!("blobs/{d}")));
        assert!(failure.violations.iter().all(|v| v.r#type == "MISSING"));
    }

    #[test]
    fn a_remote_refusal_is_never_blamed_on_the_client() {
        let refused = WorkerError::remote("FindMissingBlobs", tonic::Status::invalid_argument("x"));
        assert_eq!(refused.code(), Code::Internal);
        let away = WorkerError::remote("FindMissingBlobs", tonic::Status::unavailable("x"));
        assert_eq!(away.code(), Code::Unavailable);
    }
}
