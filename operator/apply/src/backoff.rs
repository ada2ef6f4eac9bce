//! How long to wait before an object is tried again: each object by its own record of failures.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

/// Failures in a row, by uid.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: Mutex<HashMap<String, u32>>,
}

impl Backoff {
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(300);

    /// Records a failure and says how long to wait: 1 s, doubled each time, 5 min at most, less up to a quarter
    /// by `jitter` (0 to 1), so that objects that failed together don't come back together.
    #[must_use]
    pub fn failed(&self, uid: &str, jitter: f64) -> Duration {
        let mut failures = self.failures.lock();
        let count = failures.entry(uid.to_owned()).or_insert(0);
        let wait = Self::FIRST.saturating_mul(1 << (*count).min(20)).min(Self::LONGEST);
        *count = count.saturating_add(1);
        wait.mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0))
    }

    /// Forgets an object's failures.
    pub fn succeeded(&self, uid: &str) {
        self.failures.lock().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_five_minutes_and_starts_over_after_success() {
        let backoff = Backoff::default();
        let waits: Vec<u64> = (0..11).map(|_| backoff.failed("a", 0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff.failed("b", 0.0).as_secs(), 1, "objects don't share their failures");
        backoff.succeeded("a");
        assert_eq!(backoff.failed("a", 0.0).as_secs(), 1);
    }

    #[test]
    fn jitter_only_shortens() {
        let backoff = Backoff::default();
        assert_eq!(backoff.failed("a", 1.0), Duration::from_millis(750));
    }
}
