//! [`StreamsError`]: what can go wrong with what is kept.

use std::sync::Arc;
use std::time::Duration;

use grid_core::{Coded, ErrorCode, Violation};
use thiserror::Error;

/// Why a store did not do what it was asked.
#[derive(Debug, Error)]
pub enum StreamsError {
    /// The stream is not there, or has expired.
    #[error("{0} not found")]
    NotFound(String),
    /// A stream of that name is there already.
    #[error("{0} exists already")]
    Exists(String),
    /// The token is not the one that the stream was made with.
    #[error("the write token of {0} is wrong")]
    WrongToken(String),
    /// The bytes don't follow those that are there.
    #[error("offset {given} does not follow the {committed} bytes that are there")]
    Offset {
        /// The offset that was given.
        given: u64,
        /// How many bytes are there.
        committed: u64,
    },
    /// The stream takes no more.
    #[error("{0} is finished")]
    Finished(String),
    /// The stream has reached the limit of its size.
    #[error("{name} has reached its limit of {limit} bytes")]
    Full {
        /// The stream.
        name: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// More answers than one call gives.
    #[error("{0}")]
    TooMany(String),
    /// The pattern is no regular expression.
    #[error("{0}")]
    Pattern(String),
    /// The database is away or refuses.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// As [`StreamsError::Database`], met by several calls at once.
    #[error("database: {0}")]
    Shared(Arc<sqlx::Error>),
}

impl StreamsError {
    /// What the database said.
    fn database(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Database(error) => Some(error),
            Self::Shared(error) => Some(error),
            _ => None,
        }
    }
}

impl Coded for StreamsError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound(_) => ErrorCode::NotFound,
            Self::Exists(_) => ErrorCode::AlreadyExists,
            Self::WrongToken(_) => ErrorCode::PermissionDenied,
            Self::Offset { .. } | Self::Pattern(_) => ErrorCode::InvalidArgument,
            Self::Finished(_) => ErrorCode::FailedPrecondition,
            Self::Full { .. } | Self::TooMany(_) => ErrorCode::ResourceExhausted,
            Self::Database(error) => database_code(error),
            Self::Shared(error) => database_code(error),
        }
    }

    fn client_message(&self) -> String {
        match self.database() {
            Some(error) if is_away(error) => "the database is not available just now".into(),
            Some(_) => "internal error; see the server's log".into(),
            None => self.to_string(),
        }
    }

    fn violations(&self) -> Vec<Violation> {
        let one = |kind: &str, subject: &str| {
            vec![Violation { kind: kind.into(), subject: subject.into(), description: self.to_string() }]
        };
        match self {
            Self::Offset { .. } => one("FIELD", "write_offset"),
            Self::Pattern(_) => one("FIELD", "build_id_pattern"),
            Self::Finished(name) => one("FINISHED", name),
            Self::Full { name, .. } => one("QUOTA", name),
            Self::TooMany(_) => one("QUOTA", "build_id_pattern"),
            Self::NotFound(_)
            | Self::Exists(_)
            | Self::WrongToken(_)
            | Self::Database(_)
            | Self::Shared(_) => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        (self.code() == ErrorCode::Unavailable).then_some(Duration::from_secs(1))
    }
}

fn database_code(error: &sqlx::Error) -> ErrorCode {
    if is_away(error) { ErrorCode::Unavailable } else { ErrorCode::Internal }
}

fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // Class 57 is an operator's intervention, 08 a broken connection, 53 too few resources, 40 a conflict.
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| ["57", "08", "53", "40"].iter().any(|class| code.starts_with(class))),
        _ => false,
    }
}
