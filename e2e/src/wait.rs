//! Waiting for what tells of no event: a counter, the state of several objects.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Looks twice a second until `probe` says yes.
///
/// # Errors
/// Where it can't be asked, or has not said so after that many seconds.
pub(crate) fn until(what: &str, seconds: u64, mut probe: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !probe()? {
        ensure!(Instant::now() < end, "{what}: not so after {seconds} s");
        pause(Duration::from_millis(500));
    }
    Ok(())
}

/// Lets time go by.
pub(crate) fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "there is no event to wait for, and no executor here")]
    std::thread::sleep(time);
}
