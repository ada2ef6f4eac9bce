//! Conditions as a pure function of what is to be said, what was said before, and the time.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// The three states of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the Kubernetes API")]
pub enum Status {
    True,
    False,
    Unknown,
}

impl Status {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// A condition that is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Type of the condition, in CamelCase.
    pub type_: &'static str,
    /// Whether it holds.
    pub status: Status,
    /// Why, in one CamelCase word.
    pub reason: &'static str,
    /// Cause and remedy, in a sentence.
    pub message: String,
}

impl Wanted {
    /// A condition that is to be said.
    #[must_use]
    pub fn new(
        type_: &'static str,
        status: impl Into<Status>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { type_, status: status.into(), reason, message: message.into() }
    }
}

/// The longest message that the API server takes.
const MAX_MESSAGE: usize = 32_768;

/// The new conditions, by type. A condition keeps the time of its last transition unless its status flips, so
/// that saying the same again changes nothing.
#[must_use]
pub fn merge(
    old: &[Condition],
    wanted: Vec<Wanted>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut merged: Vec<Condition> = wanted
        .into_iter()
        .map(|wanted| {
            let status = wanted.status.as_str();
            let since = old
                .iter()
                .find(|c| c.type_ == wanted.type_ && c.status == status)
                .map_or(Time(now), |c| c.last_transition_time.clone());
            let mut message = wanted.message;
            if message.len() > MAX_MESSAGE {
                let end = (0..=MAX_MESSAGE).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
                message.truncate(end);
            }
            Condition {
                type_: wanted.type_.to_owned(),
                status: status.to_owned(),
                reason: wanted.reason.to_owned(),
                message,
                last_transition_time: since,
                observed_generation: generation,
            }
        })
        .collect();
    merged.sort_by(|a, b| a.type_.cmp(&b.type_));
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn saying_the_same_again_changes_nothing() {
        let say = || vec![Wanted::new("Ready", true, "Available", "all is well")];
        let first = merge(&[], say(), Some(1), at(10));
        assert_eq!(merge(&first, say(), Some(1), at(99)), first);
    }

    #[test]
    fn the_time_moves_only_when_the_status_flips() {
        let first = merge(&[], vec![Wanted::new("Ready", false, "Starting", "")], Some(1), at(10));
        let second = merge(&first, vec![Wanted::new("Ready", false, "Failed", "disk")], Some(2), at(20));
        assert_eq!(second[0].last_transition_time, Time(at(10)));
        assert_eq!((second[0].reason.as_str(), second[0].observed_generation), ("Failed", Some(2)));
        let third = merge(&second, vec![Wanted::new("Ready", true, "Available", "")], Some(2), at(30));
        assert_eq!(third[0].last_transition_time, Time(at(30)));
    }

    #[test]
    fn a_condition_that_is_no_longer_said_goes() {
        let first = merge(&[], vec![Wanted::new("Paused", true, "Asked", "")], None, at(1));
        assert!(merge(&first, vec![], None, at(2)).is_empty());
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let long = "ü".repeat(20_000);
        let merged = merge(&[], vec![Wanted::new("Ready", false, "Failed", long)], None, at(1));
        assert_eq!(merged[0].message.len(), MAX_MESSAGE);
    }
}
