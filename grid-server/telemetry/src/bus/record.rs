//! `BusMessage`s, as protocol buffers and as their JSON.

use std::time::SystemTime;

use grid_proto::buildgrid::bus_message::Record as Wire;
use grid_proto::buildgrid::log_record::Level;
use grid_proto::buildgrid::metric_record::{Data, Type};
use grid_proto::buildgrid::{BusMessage, LogRecord, MetricRecord};
use serde_json::{Map, Value as Json, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{BusOptions, LogLine, Record, Sample, Value, full_name, tags};

/// The message with a record; `None` where there is nothing to say.
pub(super) fn message(options: &BusOptions, sequence_number: i64, record: &Record) -> Option<BusMessage> {
    let record = match record {
        Record::Sample(at, sample) => Wire::MetricRecord(metric(options, *at, sample)),
        Record::Log(at, line) => Wire::LogRecord(log(*at, line)),
        Record::Flush(_) => return None,
    };
    Some(BusMessage { sequence_number, record: Some(record) })
}

fn metric(options: &BusOptions, at: SystemTime, sample: &Sample) -> MetricRecord {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "the field is a float")]
    let (kind, data) = match sample.value {
        Value::Count(count) => (Type::Counter, Data::Count(count as f32)),
        Value::Time(took) => {
            (Type::Timer, Data::Duration(prost_types::Duration::try_from(took).unwrap_or_default()))
        }
        Value::Gauge(value) => (Type::Gauge, Data::Value(value as f32)),
        // BuildGrid puts these into the field of counters.
        Value::Distribution(value) => (Type::Distribution, Data::Count(value as f32)),
    };
    MetricRecord {
        creation_timestamp: Some(at.into()),
        r#type: kind.into(),
        name: full_name(&options.prefix, &sample.name),
        data: Some(data),
        metadata: tags(sample, &options.additional_tags).into_iter().collect(),
    }
}

fn log(at: SystemTime, line: &LogLine) -> LogRecord {
    let level = match line.level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warning,
        tracing::Level::INFO => Level::Info,
        _ => Level::Debug,
    };
    LogRecord {
        creation_timestamp: Some(at.into()),
        domain: line.domain.clone(),
        level: level.into(),
        message: line.message.clone(),
        metadata: line.fields.clone().into_iter().collect(),
    }
}

/// The message in protobuf's JSON, on one line.
pub(super) fn json(message: &BusMessage) -> String {
    let mut object = Map::new();
    object.insert("sequenceNumber".to_owned(), json!(message.sequence_number.to_string()));
    match &message.record {
        Some(Wire::MetricRecord(metric)) => {
            let mut record = json!({
                "creationTimestamp": timestamp(metric.creation_timestamp.as_ref()),
                "type": metric.r#type().as_str_name(),
                "name": metric.name,
                "metadata": metric.metadata,
            });
            match &metric.data {
                Some(Data::Count(count)) => record["count"] = json!(count),
                Some(Data::Duration(took)) => record["duration"] = json!(took.to_string()),
                Some(Data::Value(value)) => record["value"] = json!(value),
                None => {}
            }
            object.insert("metricRecord".to_owned(), record);
        }
        Some(Wire::LogRecord(log)) => {
            let record = json!({
                "creationTimestamp": timestamp(log.creation_timestamp.as_ref()),
                "domain": log.domain,
                "level": log.level().as_str_name(),
                "message": log.message,
                "metadata": log.metadata,
            });
            object.insert("logRecord".to_owned(), record);
        }
        None => {}
    }
    Json::Object(object).to_string()
}

fn timestamp(at: Option<&prost_types::Timestamp>) -> Option<String> {
    let at = at?;
    let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::bus::{Format, TagFormat, Target};

    #[test]
    fn json_is_protobufs_own() {
        let options = BusOptions {
            target: Target::Stdout,
            format: Format::Json,
            prefix: String::new(),
            tags: TagFormat::None,
            additional_tags: BTreeMap::new(),
        };
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        let sample = Sample {
            name: "rpc.duration.ms".into(),
            value: Value::Time(Duration::from_millis(1_500)),
            tags: vec![("code", "OK".into())],
        };
        let text = json(&message(&options, 7, &Record::Sample(at, sample)).unwrap());
        let parsed: Json = serde_json::from_str(&text).unwrap();
        let expected = json!({"sequenceNumber": "7", "metricRecord": {
            "creationTimestamp": "1970-01-02T00:00:00Z", "type": "TIMER", "name": "rpc.duration.ms",
            "duration": "1.500s", "metadata": {"code": "OK"}}});
        assert_eq!(parsed, expected);
        assert!(!text.contains('\n'));
    }
}
