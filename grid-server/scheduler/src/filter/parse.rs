//! The text form of a [`Filter`]: `stage = QUEUED & tool_name != bazel & sort_order = queued_time(desc)`.
//!
//! Errors tell the position, counted in characters from 1, and what was expected there.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use thiserror::Error;
use uuid::Uuid;

use super::{Comparison, Condition, Field, Filter, SortKey, Value};

/// Where and why a filter can't be read. Fit for clients.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("filter, position {position}: {message}")]
pub struct FilterError {
    /// Characters from 1.
    pub position: usize,
    /// What is wrong, and what was expected.
    pub message: String,
}

/// The parameters of filters, by name; `sort_order` beside them orders what is found.
pub const FIELDS: [(&str, Field); 18] = [
    ("name", Field::Name),
    ("stage", Field::Stage),
    ("command", Field::Command),
    ("platform", Field::Platform),
    ("action_digest", Field::ActionDigest),
    ("invocation_id", Field::InvocationId),
    ("correlated_invocations_id", Field::CorrelatedInvocationsId),
    ("tool_name", Field::ToolName),
    ("tool_version", Field::ToolVersion),
    ("action_mnemonic", Field::ActionMnemonic),
    ("target_id", Field::TargetId),
    ("configuration_id", Field::ConfigurationId),
    ("queued_time", Field::QueuedTime),
    ("start_time", Field::StartTime),
    ("completed_time", Field::CompletedTime),
    ("client_workflow", Field::ClientWorkflow),
    ("client_actor", Field::ClientActor),
    ("client_subject", Field::ClientSubject),
];

/// The stages that filters name, with their numbers.
pub const STAGES: [(&str, i64); 5] =
    [("UNKNOWN", 0), ("CACHE_CHECK", 1), ("QUEUED", 2), ("EXECUTING", 3), ("COMPLETED", 4)];

/// Longer than these are names, and comparisons that begin alike come longest first.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("!=", Comparison::NotEqual),
    (">=", Comparison::GreaterOrEqual),
    ("<=", Comparison::LessOrEqual),
    ("=", Comparison::Equal),
    (">", Comparison::Greater),
    ("<", Comparison::Less),
];

/// Reads a filter; the empty text is the default filter.
///
/// # Errors
/// [`FilterError`] for the first thing that can't be read.
pub fn parse(text: &str) -> Result<Filter, FilterError> {
    if text.trim().is_empty() {
        return Ok(Filter::default());
    }
    let mut filter = Filter { conditions: Vec::new(), order: Vec::new() };
    let mut rest = Cursor { text, at: 0 };
    loop {
        rest.term(&mut filter)?;
        rest.skip_space();
        if rest.at == text.len() {
            break;
        }
        if !rest.eat("&") {
            return Err(rest.error(rest.at, "expected & or the end of the filter"));
        }
    }
    if filter.order.is_empty() {
        filter.order = Filter::default().order;
    }
    Ok(filter)
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn term(&mut self, filter: &mut Filter) -> Result<(), FilterError> {
        self.skip_space();
        let start = self.at;
        let name = self.word(|c| c.is_ascii_alphanumeric() || c == '_');
        let field = FIELDS.iter().find(|(n, _)| *n == name).map(|(_, f)| *f);
        if field.is_none() && name != "sort_order" {
            let known: Vec<_> = FIELDS.iter().map(|(n, _)| *n).collect();
            let expected = format!("expected one of {}, sort_order", known.join(", "));
            return Err(self.error(
                start,
                if name.is_empty() { expected } else { format!("{name:?} is not a parameter; {expected}") },
            ));
        }
        self.skip_space();
        let operator = self.at;
        let comparison = COMPARISONS.iter().find(|(symbol, _)| self.eat(symbol)).map(|(_, c)| *c);
        let comparison =
            comparison.ok_or_else(|| self.error(operator, "expected one of =, !=, <, <=, >, >="))?;
        self.skip_space();
        let start = self.at;
        let value = self.word(|c| c.is_ascii_alphanumeric() || "-:.+()_/".contains(c));
        if value.is_empty() {
            return Err(self.error(start, "expected a value of letters, digits and -:.+()_/"));
        }
        match field {
            Some(field) => {
                let value = read(field, value).map_err(|message| self.error(start, message))?;
                let ordered = !matches!(comparison, Comparison::Equal | Comparison::NotEqual);
                if ordered && field == Field::Platform {
                    return Err(self.error(operator, "platform is compared with = and != only"));
                }
                filter.conditions.push(Condition { field, comparison, value });
            }
            None if comparison != Comparison::Equal => {
                return Err(self.error(operator, "sort_order takes = only"));
            }
            None => filter.order.push(sort_key(value).map_err(|message| self.error(start, message))?),
        }
        Ok(())
    }

    fn skip_space(&mut self) {
        self.word(char::is_whitespace);
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let there = self.text.get(self.at..).is_some_and(|rest| rest.starts_with(symbol));
        if there {
            self.at += symbol.len();
        }
        there
    }

    fn error(&self, at: usize, message: impl Into<String>) -> FilterError {
        let before = self.text.get(..at).map_or(0, |text| text.chars().count());
        FilterError { position: before + 1, message: message.into() }
    }
}

fn read(field: Field, text: &str) -> Result<Value, String> {
    match field {
        Field::Stage => {
            let stage = STAGES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
            let expected = "expected UNKNOWN, CACHE_CHECK, QUEUED, EXECUTING or COMPLETED";
            stage.map(|(_, number)| Value::Number(*number)).ok_or_else(|| format!("{text:?}: {expected}"))
        }
        Field::Platform => {
            let (key, value) = text.split_once(':').ok_or_else(|| format!("{text:?}: expected KEY:VALUE"))?;
            Ok(Value::Property { key: key.into(), value: value.into() })
        }
        Field::QueuedTime | Field::StartTime | Field::CompletedTime => time(text).map(Value::Number),
        Field::Name if text.parse::<Uuid>().is_err() => {
            Err(format!("{text:?}: expected an operation's UUID, without its instance"))
        }
        _ => Ok(Value::Text(text.into())),
    }
}

/// A moment in ISO 8601; one without an offset is in UTC.
fn time(text: &str) -> Result<i64, String> {
    let with_offset = text.parse::<jiff::Timestamp>().ok();
    let plain = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|z| z.timestamp());
    with_offset
        .or_else(plain)
        .map(jiff::Timestamp::as_microsecond)
        .ok_or_else(|| format!("{text:?}: expected an ISO 8601 time such as 2026-07-30T14:30:00"))
}

fn sort_key(text: &str) -> Result<SortKey, String> {
    let (name, descending) = match text.strip_suffix("(desc)") {
        Some(name) => (name, true),
        None => (text.strip_suffix("(asc)").unwrap_or(text), false),
    };
    let field = FIELDS.iter().find(|(n, f)| *n == name && *f != Field::Platform).map(|(_, f)| *f);
    let key = field.map(|field| SortKey { field, descending });
    key.ok_or_else(|| format!("{text:?} is not a parameter to sort by, with or without (asc) or (desc)"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_empty_filter_lists_what_is_not_over_by_age() {
        assert_eq!(parse("  ").unwrap(), parse("stage != COMPLETED & sort_order = queued_time").unwrap());
    }

    #[test]
    fn conditions_and_order_are_read() {
        let filter =
            parse("completed_time > 2020-07-30T14:30:00 & sort_order=stage & sort_order = name(desc)");
        let filter = filter.unwrap();
        assert_eq!(filter.conditions[0].value, Value::Number(1_596_119_400_000_000));
        assert_eq!(filter.conditions[0].comparison, Comparison::Greater);
        assert_eq!(filter.order[0], SortKey { field: Field::Stage, descending: false });
        assert_eq!(filter.order[1], SortKey { field: Field::Name, descending: true });
        let platform = parse("platform=OSFamily:linux").unwrap();
        let value = Value::Property { key: "OSFamily".into(), value: "linux".into() };
        assert_eq!(platform.conditions[0].value, value);
    }

    #[test]
    fn errors_tell_the_position() {
        for (text, position) in [
            ("stagge = QUEUED", 1),
            ("stage QUEUED", 7),
            ("stage = SLEEPING", 9),
            ("stage = QUEUED | name = x", 16),
            ("name = é", 8),
            ("stage = QUEUED & name = foo", 25),
            ("stage = QUEUED &", 17),
            ("queued_time > yesterday", 15),
            ("platform < a:b", 10),
            ("sort_order = platform", 14),
            ("sort_order != name", 12),
        ] {
            assert_eq!(parse(text).unwrap_err().position, position, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text: String) {
            let _ = parse(&text);
        }
    }
}
