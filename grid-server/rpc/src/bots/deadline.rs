//! How long a bot's call may be held: less than its own deadline, so that the answer comes before it gives up.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// What BuildGrid takes for the deadline of a client that sets none.
const DEFAULT: Duration = Duration::from_mins(5);
/// A hold shorter than this is not worth it.
const LEAST: Duration = Duration::from_secs(3);

/// How long to hold a call, given its headers and the life of the bot's session: four fifths of the shortest.
pub(super) fn hold(headers: &MetadataMap, lifetime: Duration) -> Duration {
    let own = headers.get("grpc-timeout").and_then(|v| v.to_str().ok()).and_then(parse).unwrap_or(DEFAULT);
    let shortest = own.min(lifetime);
    if shortest < LEAST { Duration::ZERO } else { shortest / 5 * 4 }
}

/// The gRPC protocol's `TimeoutValue TimeoutUnit`: at most eight digits and one letter.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3_600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(timeout: &str) -> Duration {
        let mut headers = MetadataMap::new();
        headers.insert("grpc-timeout", timeout.parse().unwrap());
        hold(&headers, Duration::from_secs(600))
    }

    #[test]
    fn an_answer_comes_before_the_client_gives_up() {
        assert_eq!(held("10S"), Duration::from_secs(8));
        assert_eq!(held("30000m"), Duration::from_secs(24));
        assert_eq!(held("99999999H"), Duration::from_secs(480));
        assert_eq!(held("2S"), Duration::ZERO);
        assert_eq!(held("garbage"), Duration::from_secs(240));
        assert_eq!(hold(&MetadataMap::new(), Duration::from_secs(60)), Duration::from_secs(48));
    }
}
