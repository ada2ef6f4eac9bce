//! Sizes and times as BuildGrid's `cleanup start` takes them.

use std::time::Duration;

use grid_core::{Digest, DigestFunction, Timestamp};

/// A size: bytes, or with a decimal suffix K, M, G or T.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const EXPECTED: &str = "expected a whole number of bytes, or one with K, M, G or T: 500G";
    let units = [('K', 1_000), ('M', 1_000_000), ('G', 1_000_000_000), ('T', 1_000_000_000_000_u64)];
    let (number, unit) = split(text, &units);
    let number: u64 = number.parse().map_err(|_| EXPECTED.to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "that is more than can be counted".to_owned())
}

/// A time: seconds, or with a suffix M (minutes), H, D or W.
pub(super) fn period(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a whole number of seconds, or one with M (minutes), H, D or W: 12H";
    let units = [('M', 60), ('H', 3_600), ('D', 86_400), ('W', 604_800)];
    let (number, unit) = split(text, &units);
    let number: u64 = number.parse().map_err(|_| EXPECTED.to_owned())?;
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(|| "that is too long".to_owned())
}

/// A blob: `HASH/SIZE`, with the function before it where the hash's length does not tell it (`blake3:HASH/SIZE`).
pub(super) fn digest(text: &str) -> Result<Digest, String> {
    let (function, text) = match text.split_once(':') {
        Some((name, text)) => {
            let function = DigestFunction::from_name(name);
            (Some(function.ok_or_else(|| format!("there is no digest function {name:?}"))?), text)
        }
        None => (None, text),
    };
    Digest::parse_text(function, text).map_err(|error| error.to_string())
}

/// A moment, given as such or by how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Then.
    At(Timestamp),
    /// So long ago.
    Ago(Duration),
}

impl Moment {
    /// When that is.
    pub(crate) fn seen_from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(then) => then,
            Self::Ago(period) => now.before(period),
        }
    }
}

/// A moment: a time in ISO 8601 with its offset, or a period that lies back.
pub(super) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(then) = text.parse::<jiff::Timestamp>() {
        return Ok(Moment::At(Timestamp(then.as_microsecond())));
    }
    let expected = "expected a time with its offset (2026-07-30T14:30:00Z) or how long ago (12H)";
    period(text).map(Moment::Ago).map_err(|_| expected.to_owned())
}

fn split<'t>(text: &'t str, units: &[(char, u64)]) -> (&'t str, u64) {
    let unit = |(suffix, unit): &(char, u64)| {
        let number = text.strip_suffix([*suffix, suffix.to_ascii_lowercase()])?;
        Some((number, *unit))
    };
    units.iter().find_map(unit).unwrap_or((text, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_periods_ago() {
        let now = Timestamp(1_800_000_000_000_000);
        let seen = |text| moment(text).map(|moment| moment.seen_from(now).0);
        assert_eq!(seen("2020-07-30T14:30:00Z"), Ok(1_596_119_400_000_000));
        assert_eq!(seen("2020-07-30T16:30:00+02:00"), Ok(1_596_119_400_000_000));
        assert_eq!(seen("1H"), Ok(now.0 - 3_600_000_000));
        for wrong in ["yesterday", "2020-07-30", "2020-07-30T14:30:00", ""] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_digest_names_its_function_where_its_length_does_not() {
        for function in [DigestFunction::Sha256, DigestFunction::Blake3] {
            let blob = Digest::of(function, b"blob");
            assert_eq!(digest(&format!("{}:{blob}", function.name())), Ok(blob));
        }
        let blob = Digest::of(DigestFunction::Sha256, b"blob");
        assert_eq!(digest(&blob.to_string()), Ok(blob));
        for wrong in ["", "abc", "abc/4", "rot13:abc/4"] {
            assert!(digest(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn suffixes_are_decimal_for_sizes_and_letters_of_time() {
        assert_eq!((size("12"), size("3K"), size("2t")), (Ok(12), Ok(3_000), Ok(2_000_000_000_000)));
        assert_eq!(period("90"), Ok(Duration::from_secs(90)));
        assert_eq!(period("2M"), Ok(Duration::from_secs(120)));
        assert_eq!(period("1w"), Ok(Duration::from_secs(7 * 86_400)));
        for wrong in ["", "G", "1.5G", "-1", "1GB", "99999999999999999999", "18446744073709551615T"] {
            assert!(size(wrong).is_err(), "{wrong}");
            assert!(period(&wrong.replace('G', "H").replace('T', "W")).is_err(), "{wrong}");
        }
    }
}
