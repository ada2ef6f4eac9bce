//! [`SchedulerError`]: what can go wrong with a job, an operation or a bot's session.

use std::time::Duration;

use grid_core::{Coded, ErrorCode, Violation};
use thiserror::Error;

use crate::ids::{JobId, OperationId, SessionId};

/// Why the scheduler did not do what it was asked.
#[derive(Clone, Debug, Error)]
pub enum SchedulerError {
    /// The operation is not there, or is no longer.
    #[error("operation {0} not found")]
    OperationNotFound(OperationId),
    /// The bot's session is not there: it ran out, or the bot opened another.
    #[error("bot session {0} is not known: it expired or was replaced; create a new one")]
    SessionNotFound(SessionId),
    /// A bot speaks for a session that is another's.
    #[error("bot {bot_id:?} is not the bot of session {session}")]
    SessionMismatch {
        /// The session.
        session: SessionId,
        /// The bot that asked.
        bot_id: String,
    },
    /// A field of the request is malformed.
    #[error("{field}: {message}")]
    Invalid {
        /// The field's path.
        field: String,
        /// What is wrong, and what was expected.
        message: String,
    },
    /// Fields of the request are malformed: each field's path, and what is wrong with it.
    #[error("{}", .0.iter().map(|(field, what)| format!("{field}: {what}")).collect::<Vec<_>>().join("; "))]
    InvalidFields(Vec<(String, String)>),
    /// A name that another owner has taken.
    #[error("{0}")]
    Taken(String),
    /// What was asked for is older than what is stored.
    #[error("{0}")]
    Stale(String),
    /// Nothing of this name is there.
    #[error("{0} not found")]
    NotFound(String),
    /// No worker can ever be given this by its properties.
    #[error("{message}")]
    Unsatisfiable {
        /// What is wrong, with the properties on offer.
        message: String,
        /// The property at fault.
        property: String,
    },
    /// The queue is as long as it may be.
    #[error("the platform's job queue is full: property_label={label:?} has {limit} jobs")]
    QueueFull {
        /// The label whose queue is full.
        label: String,
        /// The limit in jobs.
        limit: u64,
    },
    /// The database does not answer.
    #[error("the scheduler's database is not available: {0}")]
    Unavailable(String),
    /// Another transaction won; a retry of the whole transaction can succeed.
    #[error("the transaction lost to another: {0}")]
    Conflict(String),
    /// A row that this version can't read.
    #[error("the row of job {job} is damaged or of a newer version: {message}")]
    Corrupt {
        /// The job.
        job: JobId,
        /// What is wrong with it.
        message: String,
    },
    /// The database's schema is not this version's.
    #[error("the database's schema does not fit this version: {0}")]
    Schema(String),
    /// The server is shutting down.
    #[error("the scheduler is shutting down")]
    Stopped,
    /// A defect of ours.
    #[error("internal scheduler error: {0}")]
    Internal(String),
}

impl Coded for SchedulerError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::OperationNotFound(_) | Self::NotFound(_) => ErrorCode::NotFound,
            Self::SessionNotFound(_)
            | Self::SessionMismatch { .. }
            | Self::Invalid { .. }
            | Self::InvalidFields(_) => ErrorCode::InvalidArgument,
            Self::Taken(_) => ErrorCode::AlreadyExists,
            Self::Unsatisfiable { .. } | Self::Stale(_) => ErrorCode::FailedPrecondition,
            Self::QueueFull { .. } => ErrorCode::ResourceExhausted,
            Self::Unavailable(_) | Self::Conflict(_) | Self::Stopped => ErrorCode::Unavailable,
            Self::Corrupt { .. } => ErrorCode::DataLoss,
            Self::Schema(_) | Self::Internal(_) => ErrorCode::Internal,
        }
    }

    fn client_message(&self) -> String {
        match self {
            Self::Unavailable(_) | Self::Conflict(_) => "the scheduler is not available just now".into(),
            Self::Schema(_) | Self::Internal(_) => "internal scheduler error; see the server's log".into(),
            other => other.to_string(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable(_) | Self::Conflict(_) | Self::Stopped => Some(Duration::from_secs(1)),
            Self::QueueFull { .. } => Some(Duration::from_secs(30)),
            _ => None,
        }
    }

    fn violations(&self) -> Vec<Violation> {
        let invalid = |field: &String, message: &String| Violation {
            kind: "INVALID".into(),
            subject: field.clone(),
            description: message.clone(),
        };
        match self {
            Self::Invalid { field, message } => vec![invalid(field, message)],
            Self::InvalidFields(faults) => faults.iter().map(|(field, what)| invalid(field, what)).collect(),
            Self::Unsatisfiable { message, property } => vec![Violation {
                kind: "PLATFORM".into(),
                subject: format!("platform.properties/{property}"),
                description: message.clone(),
            }],
            Self::SessionNotFound(_) => vec![invalid(&"name".into(), &self.to_string())],
            Self::SessionMismatch { .. } => vec![invalid(&"bot_session.bot_id".into(), &self.to_string())],
            Self::QueueFull { label, .. } => vec![Violation {
                kind: "QUOTA".into(),
                subject: format!("property_label:{label}"),
                description: self.to_string(),
            }],
            _ => Vec::new(),
        }
    }
}
