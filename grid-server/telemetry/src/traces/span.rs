//! [`Span`]: a part of a trace, and its form in OTLP's JSON (`opentelemetry.proto.trace.v1.Span`).

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// The longest name of a call that nobody serves, in characters.
const MAX_NAME: usize = 200;

/// What a span stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Internal = 1,
    Server = 2,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) trace: u128,
    pub(super) id: u64,
    /// The span above it; 0 where it is the first.
    pub(super) parent: u64,
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) start: SystemTime,
    pub(super) end: SystemTime,
    /// Those without a value are left out.
    pub(super) attributes: Vec<(&'static str, String)>,
    pub(super) failed: bool,
}

impl Span {
    /// The span as OTLP has it: ids in hexadecimal digits, 64-bit numbers as text.
    pub(super) fn to_json(&self) -> Value {
        let parent = if self.parent == 0 { String::new() } else { format!("{:016x}", self.parent) };
        json!({
            "traceId": format!("{:032x}", self.trace),
            "spanId": format!("{:016x}", self.id),
            "parentSpanId": parent,
            "name": self.name,
            "kind": self.kind as u8,
            "startTimeUnixNano": nanos(self.start),
            "endTimeUnixNano": nanos(self.end),
            "attributes": attributes(&self.attributes),
            // 0 is unset: that a call succeeded is for its client to say.
            "status": {"code": if self.failed { 2 } else { 0 }},
        })
    }
}

/// Attributes as OTLP has them, without those that have no value.
pub(super) fn attributes(attributes: &[(&'static str, String)]) -> Value {
    let given = attributes.iter().filter(|(_, value)| !value.is_empty());
    given.map(|(key, value)| json!({"key": key, "value": {"stringValue": value}})).collect()
}

fn nanos(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

/// The name of a call's span: its full method without the slash before it. It comes from outside, and is cut.
pub(super) fn name(path: &str) -> String {
    path.trim_start_matches('/').chars().take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_span_is_written_as_collectors_read_it() {
        let span = Span {
            trace: 0xabc,
            id: 0x1f,
            parent: 0,
            kind: Kind::Server,
            name: name("/google.bytestream.ByteStream/Read"),
            start: UNIX_EPOCH + Duration::from_nanos(1_000_000_007),
            end: UNIX_EPOCH + Duration::from_secs(2),
            attributes: vec![("grid.instance", "main".to_owned()), ("grid.worker", String::new())],
            failed: true,
        };
        let written = json!({
            "traceId": "00000000000000000000000000000abc",
            "spanId": "000000000000001f",
            "parentSpanId": "",
            "name": "google.bytestream.ByteStream/Read",
            "kind": 2,
            "startTimeUnixNano": "1000000007",
            "endTimeUnixNano": "2000000000",
            "attributes": [{"key": "grid.instance", "value": {"stringValue": "main"}}],
            "status": {"code": 2},
        });
        assert_eq!(span.to_json(), written);
        assert_eq!(name(&"é".repeat(1_000)).chars().count(), MAX_NAME);
    }
}
