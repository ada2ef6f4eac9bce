//! What calls, stores, caches, schedulers and cleanup report, as samples under BuildGrid's names and tags.
//!
//! `docs/monitoring.md` has the table of all its names, and says which are not published. A sample that is taken while a call
//! is served gets the call's tags from the [`Bus`](crate::bus::Bus).

mod calls;
mod cleanup;
mod jobs;
mod stores;

use std::borrow::Cow;
use std::time::Duration;

use grid_cache::observer::CacheEvent;
use grid_core::ErrorCode;

use crate::bus::{Bus, Sample, Value};

pub(crate) use calls::{Called, Told, begun, called, short};
pub(crate) use cleanup::{batch, cleaned, orphan};
pub(crate) use jobs::{Gauges, assigned, done, ran};
pub(crate) use stores::publish;

/// A sample's tags.
type Tags = Vec<(&'static str, Cow<'static, str>)>;

/// Publishes what an action cache reports.
pub(crate) fn looked_up(bus: &Bus, event: CacheEvent) {
    let name = match event {
        CacheEvent::Incomplete => "action_cache.invalid_cache.count",
        CacheEvent::MirrorsMatch => "action_cache.mirrored_matches.count",
        CacheEvent::MirrorsDiffer => "action_cache.mirrored_mismatches.count",
        // BuildGrid has no name for these.
        CacheEvent::Hit | CacheEvent::Miss | CacheEvent::FrontHit | CacheEvent::FrontMiss => return,
    };
    send(bus, name, Value::Count(1), Vec::new());
}

/// Publishes how many connections to a database are at work.
pub(crate) fn sessions(bus: &Bus, database: &str, active: u32) {
    let (name, value) = (format!("sql.active.session.gauge.{database}"), Value::Gauge(f64::from(active)));
    bus.send(Sample { name: name.into(), value, tags: Vec::new() });
}

fn send(bus: &Bus, name: &'static str, value: Value, tags: Tags) {
    bus.send(Sample { name: name.into(), value, tags });
}

/// Publishes how long something took; what failed is tagged with why.
fn timer(bus: &Bus, name: &'static str, took: Duration, error: Option<ErrorCode>, mut tags: Tags) {
    tags.extend(error.map(|code| ("exceptionType", format!("{code:?}").into())));
    send(bus, name, Value::Time(took), tags);
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
const fn float(amount: u64) -> f64 {
    amount as f64
}

/// 0 of nothing.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { float(part) * 100.0 / float(whole) }
}

/// The tags of an object's age and size, each by the range that it is in.
fn ranges(age: Duration, bytes: u64) -> Tags {
    vec![("objectAgeRange", age_range(age).into()), ("objectSizeRange", size_range(bytes).into())]
}

/// In minutes.
const fn age_range(age: Duration) -> &'static str {
    match age.as_secs() / 60 {
        0..60 => "0_TO_60",
        60..360 => "60_TO_360",
        360..1_440 => "360_TO_1440",
        1_440..2_880 => "1440_TO_2880",
        2_880..10_080 => "2880_TO_10080",
        10_080..20_160 => "10080_TO_20160",
        20_160..43_200 => "20160_TO_43200",
        _ => "43200_AND_ABOVE",
    }
}

/// In bytes.
const fn size_range(bytes: u64) -> &'static str {
    match bytes {
        0..2_000 => "0_TO_2000",
        2_000..4_000 => "2000_TO_4000",
        4_000..10_000 => "4000_TO_10000",
        10_000..100_000 => "10000_TO_100000",
        100_000..1_000_000 => "100000_TO_1000000",
        1_000_000..10_000_000 => "1000000_TO_10000000",
        10_000_000..100_000_000 => "10000000_TO_100000000",
        100_000_000..1_000_000_000 => "100000000_TO_1000000000",
        1_000_000_000..2_000_000_000 => "1000000000_TO_2000000000",
        _ => "2000000000_AND_ABOVE",
    }
}

fn milliseconds(took: Duration) -> Value {
    Value::Distribution(took.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_told_apart_by_ranges() {
        let minute = Duration::from_secs(60);
        let of = |age, bytes| ranges(age, bytes).into_iter().map(|(_, range)| range).collect::<Vec<_>>();
        assert_eq!(of(Duration::ZERO, 0), ["0_TO_60", "0_TO_2000"]);
        assert_eq!(of(60 * minute, 2_000), ["60_TO_360", "2000_TO_4000"]);
        assert_eq!(of(43_200 * minute, 2_000_000_000), ["43200_AND_ABOVE", "2000000000_AND_ABOVE"]);
    }
}
