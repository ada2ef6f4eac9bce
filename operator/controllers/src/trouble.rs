//! What is wrong with a resource or with what it needs: the reason and message of its conditions.

/// A reason in one word, and a message that names cause and remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Trouble {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    pub(crate) fn missing(kind: &str, name: &str, field: &str, remedy: &str) -> Self {
        Self::new("NotFound", format!("{field} names the {kind} {name}, which doesn't exist: {remedy}"))
    }
}

impl Trouble {
    /// It lies in something that the resource refers to, and not in itself.
    pub(crate) fn is_dependency(&self) -> bool {
        matches!(
            self.reason,
            "NotFound"
                | "KeyNotFound"
                | "KindNotFound"
                | "KeyNotText"
                | "DatabaseUri"
                | "StorageInvalid"
                | "StorageLeaving"
                | "NoExecution"
                | "UnknownInstance"
        )
    }
}

/// What an error of the API server says about the resource, for its conditions.
impl From<&crate::Error> for Trouble {
    fn from(error: &crate::Error) -> Self {
        let reason = match error {
            crate::Error::Apply(grid_operator_apply::Error::Foreign { .. }) => "NameTaken",
            crate::Error::Apply(error) if error.is_refused() => "Refused",
            crate::Error::Apply(_) => "ApplyFailed",
            crate::Error::Read { .. } => "ReadFailed",
            crate::Error::Certificate { .. } | crate::Error::Json(_) => "Internal",
        };
        Self::new(reason, error.to_string())
    }
}
