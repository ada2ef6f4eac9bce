//! [`InstanceName`]: which grid of a server a call is for.

use std::borrow::Borrow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use thiserror::Error;

/// Path segments that resource names give a meaning to; an instance name with one could not be told apart
/// from the rest of the resource's name (REAPI, `ByteStream` resource names).
const RESERVED: [&str; 7] =
    ["blobs", "uploads", "actions", "actionResults", "operations", "capabilities", "compressed-blobs"];

/// The name of an instance. The empty name is the unnamed instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceName(Arc<str>);

/// Why a name can't name an instance. The message is fit for clients.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InstanceNameError {
    /// One of its segments has a meaning of its own in resource names.
    #[error("instance name {name:?} has the segment {segment:?}, which resource names reserve")]
    Reserved {
        /// The name given.
        name: String,
        /// The segment that is reserved.
        segment: &'static str,
    },
    /// An empty segment, a control character, or more than 255 bytes.
    #[error("instance name {0:?} must be at most 255 bytes of segments divided by single slashes")]
    Form(String),
}

impl InstanceName {
    /// A name for an instance.
    ///
    /// # Errors
    /// [`InstanceNameError`] for reserved and for empty segments, control characters and over-long names.
    pub fn new(name: &str) -> Result<Self, InstanceNameError> {
        if name.is_empty() {
            return Ok(Self::default());
        }
        let bad =
            name.len() > 255 || name.split('/').any(str::is_empty) || name.chars().any(char::is_control);
        if bad {
            return Err(InstanceNameError::Form(name.chars().take(255).collect()));
        }
        match RESERVED.into_iter().find(|r| name.split('/').any(|segment| segment == *r)) {
            Some(segment) => Err(InstanceNameError::Reserved { name: name.to_owned(), segment }),
            None => Ok(Self(name.into())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as metrics label it: BuildGrid writes `unnamed` for the empty one.
    #[must_use]
    pub fn label(&self) -> &str {
        if self.0.is_empty() { "unnamed" } else { &self.0 }
    }

    /// `NAME/rest`, or `rest` alone in the unnamed instance.
    #[must_use]
    pub fn join(&self, rest: &str) -> String {
        if self.0.is_empty() { rest.to_owned() } else { format!("{}/{rest}", self.0) }
    }
}

// So that a map by name is asked with the text of a request, without an allocation.
impl Borrow<str> for InstanceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place where a call's instance is noted once it is known, for those who count calls before they are read.
#[derive(Clone, Debug, Default)]
pub struct CallInstance(Arc<OnceLock<InstanceName>>);

impl CallInstance {
    /// Notes the instance; the first note stands.
    pub fn note(&self, instance: &InstanceName) {
        let _ = self.0.set(instance.clone());
    }

    /// The instance's label, or nothing where the call is about none.
    #[must_use]
    pub fn label(&self) -> &str {
        self.0.get().map_or("", InstanceName::label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_blur_resource_names_are_refused() {
        for name in ["blobs", "a/uploads", "a//b", "/a", "a/", "a\n"] {
            assert!(InstanceName::new(name).is_err(), "{name:?}");
        }
        for name in ["", "main", "a/b", "team blobs"] {
            assert_eq!(InstanceName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn the_unnamed_instance_adds_no_slash() {
        assert_eq!(InstanceName::default().join("x"), "x");
        assert_eq!(InstanceName::new("main").unwrap().join("x"), "main/x");
        assert_eq!(InstanceName::default().label(), "unnamed");
    }
}
