//! Memory pressure: whether the machine has room for another action.
//!
//! An action that begins on a machine without memory is the next to be killed, or has another one killed; so none
//! begins. What counts is the machine's own estimate of what can be had without swapping, for the pods of a node
//! share it. Neighbour: `health` asks.

use std::fs::read_to_string;

/// What stays free of a large machine.
const RESERVE: u64 = 256 << 20;
/// What stays free of a small one.
const RESERVE_PERCENT: u64 = 2;

/// Says whether less than `reserve` bytes can be had; `None` for the default.
#[must_use]
pub fn trouble(reserve: Option<u64>) -> Option<String> {
    // Where the system doesn't tell, nobody can say that there is too little.
    let text = read_to_string("/proc/meminfo").ok()?;
    let (total, available) = (field(&text, "MemTotal:")?, field(&text, "MemAvailable:")?);
    let reserve = reserve.unwrap_or_else(|| RESERVE.min(total / 100 * RESERVE_PERCENT));
    (available < reserve).then(|| format!("{available} bytes of memory are available; {reserve} are to stay"))
}

/// A field of `/proc/meminfo`, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_bytes() {
        let text = "MemTotal:       24000000 kB\nMemFree: 1 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(field(text, "MemAvailable:"), Some(2048 * 1024));
        assert_eq!(field(text, "SwapTotal:"), None);
        assert!(trouble(Some(u64::MAX)).is_some() && trouble(Some(0)).is_none());
    }
}
