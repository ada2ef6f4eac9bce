//! [`OriginError`]: why an asset could not be had from where it comes from.

use std::error::Error as _;
use std::time::Duration;

use grid_core::{Coded, ErrorCode, Violation};
use thiserror::Error;

use super::addresses::Internal;

/// Why an asset could not be fetched. Texts name no query of a URL, for that may hold a credential.
#[derive(Debug, Error)]
pub enum OriginError {
    /// The URI is none that can be fetched.
    #[error("not a URI to fetch: {0}")]
    Uri(String),
    /// The configuration does not name the host.
    #[error("the host {0:?} is not among those that may be fetched from")]
    Host(String),
    /// The host is inside the network.
    #[error("the host {0:?} is at an internal address, which may not be fetched from")]
    Internal(String),
    /// The origin wants other credentials.
    #[error("the origin refuses: HTTP status {0}")]
    Denied(u16),
    /// The origin does not have it.
    #[error("the origin does not have it: HTTP status {0}")]
    NotFound(u16),
    /// The origin answers something of no use.
    #[error("the origin answers {0}")]
    Answer(String),
    /// The content is larger than may be fetched.
    #[error("the content is larger than the limit of {0} bytes")]
    TooLarge(u64),
    /// The content is not what was asked for.
    #[error("the content does not match checksum.sri; its hash is {0}")]
    Checksum(String),
    /// The time for fetching is over.
    #[error("the content did not come within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The origin is away or in trouble.
    #[error("the origin is in trouble: {0}")]
    Trouble(String),
    /// The content can't be put down on its way.
    #[error("the content can't be kept on its way: {0}")]
    Spool(#[from] std::io::Error),
    /// The content can't be stored.
    #[error(transparent)]
    Store(#[from] grid_cas::StoreError),
    /// The server ends.
    #[error("the server is shutting down")]
    Closed,
}

impl OriginError {
    /// Whether the same request may do better in a moment.
    pub(super) const fn is_transient(&self) -> bool {
        matches!(self, Self::Trouble(_))
    }

    /// Whether it is told within the answer: what became of fetching, in place of what became of the call (Remote
    /// Asset API, `FetchBlobResponse.status`).
    pub(in crate::asset) fn is_answer(&self) -> bool {
        use ErrorCode::{Aborted, DeadlineExceeded, NotFound, PermissionDenied};
        !matches!(self, Self::Store(_))
            && matches!(self.code(), NotFound | PermissionDenied | Aborted | DeadlineExceeded)
    }
}

impl From<reqwest::Error> for OriginError {
    fn from(error: reqwest::Error) -> Self {
        let mut cause = error.source();
        while let Some(inner) = cause {
            if let Some(Internal(host)) = inner.downcast_ref() {
                return Self::Internal(host.clone());
            }
            cause = inner.source();
        }
        let told = error.without_url();
        let innermost = std::iter::successors(told.source(), |e| (*e).source()).last();
        Self::Trouble(innermost.map_or_else(|| told.to_string(), |inner| format!("{told}: {inner}")))
    }
}

impl Coded for OriginError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Uri(_) => ErrorCode::InvalidArgument,
            Self::Host(_) | Self::Internal(_) | Self::Denied(_) => ErrorCode::PermissionDenied,
            Self::NotFound(_) => ErrorCode::NotFound,
            Self::Answer(_) | Self::TooLarge(_) | Self::Checksum(_) => ErrorCode::Aborted,
            Self::Timeout(_) => ErrorCode::DeadlineExceeded,
            Self::Trouble(_) | Self::Closed => ErrorCode::Unavailable,
            Self::Spool(_) => ErrorCode::Internal,
            Self::Store(error) => error.code(),
        }
    }

    fn client_message(&self) -> String {
        match self {
            Self::Spool(_) => "internal error; see the server's log".into(),
            Self::Store(error) => error.client_message(),
            other => other.to_string(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Store(error) => error.retry_after(),
            _ => (self.code() == ErrorCode::Unavailable).then_some(Duration::from_secs(5)),
        }
    }

    fn violations(&self) -> Vec<Violation> {
        match self {
            Self::Uri(_) => {
                let (kind, subject) = ("FIELD".into(), "uris".into());
                vec![Violation { kind, subject, description: self.to_string() }]
            }
            Self::Store(error) => error.violations(),
            _ => Vec::new(),
        }
    }
}
