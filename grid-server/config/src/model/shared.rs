//! [`Shared`] objects, their [`Place`]s, and [`Secret`]s.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::yaml::Mark;

/// A tagged object; all aliases of one anchor are the same `Arc`.
pub type Shared<T> = Arc<Item<T>>;

/// An object with the place where it is written out.
#[derive(Debug, PartialEq)]
pub struct Item<T> {
    /// Where it is written out.
    pub place: Place,
    /// What it says.
    pub value: T,
}

impl<T> Deref for Item<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Where an object is written out, for messages about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its path, such as `instances[0].storages[1]`.
    pub path: String,
    /// Its tag with the `!`.
    pub tag: &'static str,
    /// Its anchor, where it has one.
    pub anchor: Option<String>,
    /// Its line and column.
    pub mark: Mark,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, tag, anchor, mark } = self;
        write!(f, "{path} ({tag}")?;
        if let Some(anchor) = anchor {
            write!(f, " &{anchor}")?;
        }
        write!(f, ", line {})", mark.line)
    }
}

/// Text that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one who needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
