//! Why a reconciliation could not be finished. What is wrong with a resource is no error: it is a condition.

/// What kept a reconciler from finishing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Applying or writing a status failed.
    #[error(transparent)]
    Apply(#[from] grid_operator_apply::Error),
    /// Something that the resource refers to could not be read.
    #[error("reading {what}: {source}")]
    Read {
        /// Kind and name.
        what: String,
        /// The API server's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// A certificate could not be made.
    #[error("making a certificate for {host}: {message}")]
    Certificate {
        /// The host that it was for.
        host: String,
        /// The library's message.
        message: String,
    },
    /// An object can't be written as JSON.
    #[error("the object can't be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The world changed under the reconciler's hands: it is to look again at once, and nothing is wrong.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Apply(error) if error.is_conflict())
    }

    /// The API server refuses the objects as they are: only a change of the resource helps.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Apply(error) if error.is_refused())
    }

    pub(crate) fn read(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Read { what, source: Box::new(source) }
    }
}
