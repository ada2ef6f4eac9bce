//! [`FileTime`]: a moment by the clock that change times of files are taken from.
//!
//! A change time can't be set back by whoever changes a file, so it tells what was touched since a moment. The
//! clock's ticks are coarser than the machine's: what has the change time of a moment may have changed before or
//! after it. Neighbours: `stage` compares directories with it, `runner::settle` skips what is as it was.

use rustix::fs::Stat;
use rustix::time::{ClockId, clock_gettime};

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Eq, PartialEq, PartialOrd)]
pub(crate) struct FileTime(i64, i64);

impl FileTime {
    /// Later than any other.
    pub(crate) const NEVER: Self = Self(i64::MAX, i64::MAX);

    /// When what `stat` describes changed last.
    pub(crate) fn changed(stat: &Stat) -> Self {
        Self(stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0))
    }

    /// Whether it is earlier than `moment` beyond doubt. Some file systems know whole seconds only: there a change
    /// that comes later in the same second can't be told.
    pub(crate) fn is_before(self, moment: Self) -> bool {
        self.1 != 0 && self < moment
    }

    /// Now: nothing that changes from here on has an earlier change time.
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        Self(now.tv_sec, now.tv_nsec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_are_never_before_anything() {
        let moment = FileTime(7, 500);
        assert!(FileTime(7, 499).is_before(moment) && FileTime(6, 999).is_before(moment));
        for time in [FileTime(7, 0), FileTime(6, 0), moment, FileTime(7, 501), FileTime::NEVER] {
            assert!(!time.is_before(moment), "{time:?}");
        }
    }
}
