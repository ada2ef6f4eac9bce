//! [`Node`]: one node of a document. An aliased node is one `Node` in several places.

use std::fmt;
use std::sync::Arc;

use super::Scalar;

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One node, where it is written out.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    /// The tag without its `!`, where it has one that isn't YAML's own.
    pub(crate) tag: Option<Box<str>>,
    pub(crate) anchor: Option<Box<str>>,
    pub(crate) content: Content,
    /// How many nodes there would be if every alias beneath were written out.
    pub(crate) expanded: usize,
}

#[derive(Debug)]
pub(crate) enum Content {
    Scalar(Scalar),
    List(Vec<Child>),
    Map(Vec<Entry>),
}

/// A place that holds a node: written out there, or by an alias.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    pub(crate) mark: Mark,
    pub(crate) node: Arc<Node>,
}

/// One key of a mapping with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Box<str>,
    pub(crate) mark: Mark,
    pub(crate) value: Child,
}

impl Node {
    /// What the node is, in words for a message; never its content.
    pub(crate) fn describe(&self) -> String {
        match (&self.tag, &self.content) {
            (Some(tag), _) => format!("!{tag}"),
            (None, Content::Scalar(scalar)) => scalar.describe().to_owned(),
            (None, Content::List(_)) => "a list".to_owned(),
            (None, Content::Map(_)) => "a mapping".to_owned(),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.tag.is_none() && matches!(&self.content, Content::Scalar(scalar) if scalar.is_null())
    }

    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        match &self.content {
            Content::Scalar(scalar) if self.tag.is_none() => Some(scalar),
            Content::Scalar(_) | Content::List(_) | Content::Map(_) => None,
        }
    }
}
