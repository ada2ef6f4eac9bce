//! What a reconciliation asks of its scheduler.

use std::time::Duration;

/// When to look at the resource again, though nothing about it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Only when something changes.
    AwaitChange,
    /// After this time: a certificate is to be renewed then, or the check of a Secret is due.
    After(Duration),
    /// Something that no watch tells of is missing: soon, then more and more rarely.
    Retry,
}
