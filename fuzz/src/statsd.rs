//! Lines for StatsD: whatever a prefix or a tag holds, a line has one end and its separators are the form's own.

use std::collections::BTreeMap;

use grid_telemetry::bus::{BusOptions, Format, Sample, TagFormat, Target, Value, statsd_line};

pub(crate) fn run(data: &[u8]) {
    let Some((&form, rest)) = data.split_first() else { return };
    let Some(text) = crate::text(rest) else { return };
    let (tags, between) = match form % 3 {
        0 => (TagFormat::Influx, '='),
        1 => (TagFormat::Graphite, '='),
        _ => (TagFormat::Dog, ':'),
    };
    let mut parts = text.split('\0');
    let prefix = parts.next().unwrap_or_default().to_owned();
    let additional_tags: BTreeMap<String, String> = parts
        .filter_map(|part| part.split_once('\u{1}'))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    let written = additional_tags.values().filter(|value| !value.is_empty()).count();
    let options =
        BusOptions { target: Target::Stdout, format: Format::Statsd, prefix, tags, additional_tags };
    let sample = Sample { name: "rpc.duration.ms".into(), value: Value::Count(3), tags: Vec::new() };
    let line = statsd_line(&options, &sample);
    assert!(!line.chars().any(|c| c.is_control() || c.is_whitespace()), "{line:?}");
    let own = usize::from(tags == TagFormat::Dog);
    assert!(line.matches(between).count() <= written + own, "{line:?}");
    assert_eq!(line.matches(":3|c").count(), 1, "{line:?}");
}
