//! [`CacheError`]: what can go wrong with an action's result.

use std::time::Duration;

use grid_cas::StoreError;
use grid_core::{Coded, Digest, ErrorCode, Violation};
use thiserror::Error;

/// Why an action cache did not do what it was asked.
#[derive(Clone, Debug, Error)]
pub enum CacheError {
    /// The cache is read-only for everyone who asks through it.
    #[error("this action cache takes no updates")]
    UpdatesNotAllowed,
    /// The cache takes one result an action, and has one.
    #[error("action {0} has a result already, and this cache keeps the first")]
    AlreadyWritten(Digest),
    /// What the backend holds is not an `ActionResult`.
    #[error("the entry of action {0} is damaged")]
    Corrupt(Digest),
    /// Trouble of the backend, or of the storage that results lie in.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Coded for CacheError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UpdatesNotAllowed => ErrorCode::PermissionDenied,
            Self::AlreadyWritten(_) => ErrorCode::AlreadyExists,
            Self::Corrupt(_) => ErrorCode::NotFound,
            Self::Store(error) => error.code(),
        }
    }

    fn client_message(&self) -> String {
        match self {
            Self::Store(error) => error.client_message(),
            other => other.to_string(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Store(error) => error.retry_after(),
            _ => None,
        }
    }

    fn violations(&self) -> Vec<Violation> {
        match self {
            Self::Store(error) => error.violations(),
            _ => Vec::new(),
        }
    }
}
