//! [`Diagnostic`]: one thing to tell about a configuration, with the place it is about.
//!
//! Every layer of this crate reports here and goes on, so that one run finds everything. A diagnostic never quotes
//! a secret: the layers leave the values of secret keys out of their texts.

use std::collections::BTreeSet;
use std::fmt;

use crate::yaml::Mark;

/// How much a [`Diagnostic`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration can't be used.
    Error,
    /// The configuration works, but says something in a spelling that is no longer the right one; an error under
    /// `--strict`.
    Deprecated,
    /// The configuration works, but a part of it has no effect or can't mean what it seems to.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Deprecated | Self::Warning => "warning",
        })
    }
}

/// One thing to tell about a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// Line and column, both from 1.
    pub mark: Mark,
    /// How much it matters.
    pub severity: Severity,
    /// The field's path from the document's root, such as `instances[0].storages[1].size`; empty for the document.
    pub path: String,
    /// What is wrong, what was expected, and what to do.
    pub message: String,
}

impl Diagnostic {
    /// The message on one line, with the file it is about.
    #[must_use]
    pub fn render(&self, file: &str) -> String {
        let Self { mark, severity, path, message } = self;
        if path.is_empty() {
            format!("{file}:{mark}: {severity}: {message}")
        } else {
            format!("{file}:{mark}: {severity}: {path}: {message}")
        }
    }
}

/// Collects diagnostics, and says each only once however often an alias leads to its place.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    list: Vec<Diagnostic>,
    seen: BTreeSet<(Mark, String)>,
}

impl Diagnostics {
    pub(crate) fn push(&mut self, severity: Severity, mark: Mark, path: &str, message: String) {
        if self.seen.insert((mark, message.clone())) {
            self.list.push(Diagnostic { mark, severity, path: path.to_owned(), message });
        }
    }

    pub(crate) fn error(&mut self, mark: Mark, path: &str, message: String) {
        self.push(Severity::Error, mark, path, message);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.list.iter().any(|d| d.severity == Severity::Error)
    }

    /// All of them in the order of the file.
    pub(crate) fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.list.sort();
        self.list
    }
}

/// `; did you mean …?` with the candidate that is nearest to what was written, or nothing where none is near.
pub(crate) fn suggestion<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    quote: &str,
) -> String {
    match nearest(written, candidates) {
        Some(near) => format!("; did you mean {quote}{near}{quote}?"),
        None => String::new(),
    }
}

/// The candidate with the least edit distance, where it is small beside the word's length.
pub(crate) fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > 100 {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(written, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_suggested() {
        let keys = ["size", "storage", "max-cached-refs"];
        assert_eq!(nearest("sise", keys), Some("size"));
        assert_eq!(nearest("storages", keys), Some("storage"));
        assert_eq!(nearest("max_cached_ref", keys), Some("max-cached-refs"));
        assert_eq!(nearest("colour", keys), None);
    }
}
