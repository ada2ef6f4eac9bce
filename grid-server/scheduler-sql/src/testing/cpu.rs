//! Processor time of some processes, as Linux counts it: for measurements.

use std::fs;

/// Ticks a second, as every Linux of today has it.
const TICKS: f64 = 100.0;

/// Whose time is counted: some processes and their children.
#[derive(Debug)]
pub struct Cpu {
    processes: Vec<u32>,
}

impl Cpu {
    /// That of these processes, each with its children.
    pub fn of(processes: impl IntoIterator<Item = u32>) -> Self {
        Self { processes: processes.into_iter().collect() }
    }

    /// The seconds so far; those of children that ended count on.
    ///
    /// # Panics
    /// Where there is no `/proc`.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        let names = fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.file_name());
        let of = |pid: u32| {
            let counts = |stat: &Stat| [pid, stat.parent].iter().any(|pid| self.processes.contains(pid));
            stat(pid).filter(counts).map_or(0, |stat| stat.ticks)
        };
        let ticks: u32 = names.filter_map(|name| name.to_string_lossy().parse().ok()).map(of).sum();
        f64::from(ticks) / TICKS
    }
}

struct Stat {
    parent: u32,
    ticks: u32,
}

/// A process's parent and its time, with that of children that ended.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u32>().ok());
    Some(Stat { parent: number(1)?, ticks: number(11)? + number(12)? + number(13)? + number(14)? })
}
