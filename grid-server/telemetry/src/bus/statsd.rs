//! StatsD lines: `name:value|type`, with tags in one of four forms.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{BusOptions, Sample, TagFormat, Value, full_name, tags};

/// A sample's line, without its end: whatever its texts hold, it is one line and has the tags that it was given.
#[must_use]
pub fn line(options: &BusOptions, sample: &Sample) -> String {
    let tags = tags(sample, &options.additional_tags);
    let (value, kind) = match sample.value {
        Value::Count(count) => (count.to_string(), "c"),
        Value::Time(took) => (milliseconds(took.as_secs_f64() * 1_000.0), "ms"),
        Value::Gauge(value) => (value.to_string(), "g"),
        Value::Distribution(value) => (value.to_string(), "ms"),
    };
    let mut line = clean(&full_name(&options.prefix, &sample.name));
    match options.tags {
        TagFormat::Influx => push(&mut line, &tags, ',', '='),
        TagFormat::Graphite => push(&mut line, &tags, ';', '='),
        TagFormat::None | TagFormat::Dog => {}
    }
    // Writing to a string doesn't fail.
    let _ = write!(line, ":{value}|{kind}");
    if options.tags == TagFormat::Dog && !tags.is_empty() {
        let mut dog = String::new();
        push(&mut dog, &tags, ',', ':');
        let _ = write!(line, "|#{}", dog.trim_start_matches(','));
    }
    line
}

fn milliseconds(value: f64) -> String {
    format!("{value:.3}")
}

fn push(line: &mut String, tags: &BTreeMap<String, String>, before: char, between: char) {
    for (name, value) in tags {
        line.push(before);
        line.push_str(&clean(name));
        line.push(between);
        line.push_str(&clean(value));
    }
}

/// Text that can't end its place in a line.
fn clean(text: &str) -> String {
    let harmful = |c: char| c.is_control() || c.is_whitespace() || ",;=:|#@".contains(c);
    text.chars().map(|c| if harmful(c) { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bus::{Format, Target};

    fn options(tags: TagFormat) -> BusOptions {
        BusOptions {
            target: Target::Stdout,
            format: Format::Statsd,
            prefix: "buildgrid".into(),
            tags,
            additional_tags: BTreeMap::from([("site".to_owned(), "a".to_owned())]),
        }
    }

    fn sample(value: Value) -> Sample {
        Sample {
            name: "rpc.duration.ms".into(),
            value,
            tags: vec![("method", "Execute".into()), ("empty", "".into()), ("code", "OK".into())],
        }
    }

    #[test]
    fn tags_are_sorted_and_take_four_forms() {
        let value = Value::Time(Duration::from_micros(1_500));
        for (form, expected) in [
            (TagFormat::None, "buildgrid.rpc.duration.ms:1.500|ms"),
            (TagFormat::Influx, "buildgrid.rpc.duration.ms,code=OK,method=Execute,site=a:1.500|ms"),
            (TagFormat::Graphite, "buildgrid.rpc.duration.ms;code=OK;method=Execute;site=a:1.500|ms"),
            (TagFormat::Dog, "buildgrid.rpc.duration.ms:1.500|ms|#code:OK,method:Execute,site:a"),
        ] {
            assert_eq!(line(&options(form), &sample(value)), expected);
        }
    }

    #[test]
    fn values_have_the_type_of_their_kind() {
        let of = |value| line(&options(TagFormat::None), &sample(value));
        assert!(of(Value::Count(3)).ends_with(":3|c"));
        assert!(of(Value::Gauge(2.5)).ends_with(":2.5|g"));
        assert!(of(Value::Distribution(7.0)).ends_with(":7|ms"));
    }

    #[test]
    fn no_tag_ends_a_line_or_begins_another_tag() {
        let hostile = Sample {
            tags: vec![("instanceName", "a,b=c:1|c\nother:1|c|#x".into())],
            ..sample(Value::Count(1))
        };
        for form in [TagFormat::Influx, TagFormat::Graphite, TagFormat::Dog] {
            let line = line(&options(form), &hostile);
            assert!(!line.contains('\n') && line.matches('|').count() <= 2, "{line}");
            assert!(line.contains("a_b_c_1_c_other_1_c__x"), "{line}");
        }
    }
}
