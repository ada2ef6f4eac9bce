//! Times between the command line, the wire and people.

use std::time::Duration;

use jiff::{SignedDuration, fmt::friendly::SpanPrinter};

/// A duration of the wire for people, to the second.
pub(crate) fn duration(duration: &prost_types::Duration) -> String {
    let seconds = SignedDuration::from_secs(duration.seconds);
    SpanPrinter::new().duration_to_string(&seconds)
}

/// A duration of the wire for people, to the millisecond.
pub(crate) fn precise(duration: &prost_types::Duration) -> String {
    let precise = SignedDuration::new(duration.seconds, duration.nanos);
    let millis = i64::try_from(precise.as_millis()).unwrap_or(i64::MAX);
    SpanPrinter::new().duration_to_string(&SignedDuration::from_millis(millis))
}

/// Parses a duration of the command line: `90`, `90s`, `15m`, `1h 30m`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let expected = || "expected a duration such as 90s, 15m or 1h30m".to_owned();
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let parsed: SignedDuration = text.parse().map_err(|_| expected())?;
    Duration::try_from(parsed).map_err(|_| expected())
}

/// `duration` as messages carry it.
pub(crate) fn to_wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("15m", 900), ("1h30m", 5_400), ("2 hours", 7_200)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "soon", "-5s", "15 parsecs"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_read_well() {
        let wire = |seconds| prost_types::Duration { seconds, nanos: 1 };
        assert_eq!(duration(&wire(0)), "0s");
        assert_eq!(duration(&wire(3_725)), "1h 2m 5s");
        let wire = prost_types::Duration { seconds: 61, nanos: 250_900_000 };
        assert_eq!(precise(&wire), "1m 1s 250ms");
    }
}
