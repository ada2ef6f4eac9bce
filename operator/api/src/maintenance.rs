//! When the operator may replace pods of its own accord.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::Span;

const DAY: u64 = 86_400;

/// Times at which pods may be replaced for nothing but a newer operator. What the resource itself asks for is done at
/// once, at any time.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceSpec {
    /// The windows; outside of all of them nothing is moved.
    #[schemars(length(min = 1, max = 16))]
    pub windows: Vec<MaintenanceWindow>,
}

/// A span of time that comes back each week, in UTC.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceWindow {
    /// Days on which it begins; every day where none is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), extend("x-kubernetes-list-type" = "set"))]
    pub days: Vec<Weekday>,
    /// When it begins, as `HH:MM`.
    #[schemars(length(max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub start: String,
    /// How long it lasts; more than a week is a week.
    pub duration: Span,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[allow(missing_docs, reason = "their names say all")]
pub enum Weekday {
    Sunday,
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
}

impl MaintenanceSpec {
    /// How long it is until a window is open, from a time in seconds since 1970; zero while one is.
    #[must_use]
    pub fn opens_in(&self, now: u64) -> Duration {
        let waits = self.windows.iter().filter_map(|window| window.opens_in(now));
        Duration::from_secs(waits.min().unwrap_or(0))
    }
}

impl MaintenanceWindow {
    fn opens_in(&self, now: u64) -> Option<u64> {
        let (hours, minutes) = self.start.split_once(':')?;
        let start = hours.parse::<u64>().ok()? * 3_600 + minutes.parse::<u64>().ok()? * 60;
        let lasts = self.duration.seconds()?.min(7 * DAY);
        let today = now / DAY;
        // One that is open may have begun a week ago; the next one begins within a week.
        let days = today.saturating_sub(7)..=today + 7;
        let begins = days.filter(|day| self.is_on(*day)).map(|day| day * DAY + start);
        begins.filter(|begin| now < begin + lasts).map(|begin| begin.saturating_sub(now)).min()
    }

    /// Whether it begins on a day, counted from the first of 1970, which was a Thursday.
    fn is_on(&self, day: u64) -> bool {
        let number = (day + 4) % 7;
        self.days.is_empty() || self.days.iter().any(|day| *day as u64 == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 2026-01-05, 00:00 UTC.
    const MONDAY: u64 = 1_767_571_200;

    fn window(days: &[Weekday], start: &str, duration: &str) -> MaintenanceSpec {
        MaintenanceSpec {
            windows: vec![MaintenanceWindow {
                days: days.to_vec(),
                start: start.to_owned(),
                duration: duration.into(),
            }],
        }
    }

    #[test]
    fn a_window_is_open_from_its_start_until_its_end() {
        let nightly = window(&[], "22:00", "4h");
        let at = |hour: u64| nightly.opens_in(MONDAY + hour * 3_600).as_secs() / 3_600;
        assert_eq!([at(21), at(22), at(25), at(26)], [1, 0, 0, 20], "over midnight too");
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let saturday = window(&[Weekday::Saturday], "00:00", "1d");
        assert_eq!(saturday.opens_in(MONDAY).as_secs(), 5 * DAY);
        assert_eq!(saturday.opens_in(MONDAY + 5 * DAY + 1).as_secs(), 0);
        assert_eq!(saturday.opens_in(MONDAY + 6 * DAY).as_secs(), 6 * DAY);
        let always = window(&[Weekday::Monday], "00:00", "30d");
        assert_eq!(always.opens_in(MONDAY + 6 * DAY + 12).as_secs(), 0, "a week at most, which is all of it");
    }

    #[test]
    fn of_several_windows_the_next_counts() {
        let mut windows = window(&[Weekday::Friday], "10:00", "1h");
        windows.windows.extend(window(&[Weekday::Tuesday], "10:00", "1h").windows);
        assert_eq!(windows.opens_in(MONDAY).as_secs(), DAY + 10 * 3_600);
    }
}
