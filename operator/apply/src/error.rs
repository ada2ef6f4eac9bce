//! The errors of this crate, and which of them pass by themselves.

/// What can go wrong between a computed object and the API server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request was answered by an error, or not at all.
    #[error("{verb} {kind} {namespace}/{name}: {}", answer(.source))]
    Request {
        /// What was tried: `apply`, `delete`, `list`, …
        verb: &'static str,
        /// Kind of the object.
        kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name, or the label selector of a list.
        name: String,
        /// The API server's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object can't be written as JSON.
    #[error("the object can't be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// This replica's leadership ran out before the write.
    #[error("no longer the leader: nothing is written")]
    NotLeader,
    /// An object of that name belongs to someone else.
    #[error(
        "{kind} {name} exists and isn't owned by this resource: rename the resource, or remove that object"
    )]
    Foreign {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The world moved on between observation and write: observe again at once.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// The API server understood the object and refuses it: only a change of the resource helps.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.code(), Some(400 | 403 | 422))
            || matches!(self, Self::Foreign { .. })
            || self.is_malformed()
    }

    /// The kind isn't in the cluster, or not for us.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self.code(), Some(403 | 404))
    }

    /// Server-side apply answers 500 to a field that the kind doesn't have.
    fn is_malformed(&self) -> bool {
        match self {
            Self::Request { source, .. } => answer(source).starts_with("failed to create typed patch object"),
            Self::Json(_) | Self::NotLeader | Self::Foreign { .. } => false,
        }
    }

    fn code(&self) -> Option<u16> {
        match self {
            Self::Request { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Json(_) | Self::NotLeader | Self::Foreign { .. } => None,
        }
    }
}

/// What the API server said, without the envelope.
fn answer(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
