//! Processor time of this process and of a database server's processes, as Linux counts it.

use std::fs;

/// Ticks a second, as every Linux of today has it.
const TICKS: f64 = 100.0;

/// Whose time is counted.
#[derive(Debug)]
pub(crate) struct Cpu {
    server: Option<u32>,
}

impl Cpu {
    /// That of this process.
    pub(crate) const fn own() -> Self {
        Self { server: None }
    }

    /// That of this process, of a server and of the server's children.
    pub(crate) const fn with_server(server: u32) -> Self {
        Self { server: Some(server) }
    }

    /// The seconds so far.
    pub(crate) fn seconds(&self) -> f64 {
        let mut ticks = stat(std::process::id()).map_or(0, |stat| stat.ticks);
        let Some(server) = self.server else { return to_seconds(ticks) };
        let names = fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.file_name());
        for pid in names.filter_map(|name| name.to_string_lossy().parse().ok()) {
            if let Some(stat) = stat(pid).filter(|stat| pid == server || stat.parent == server) {
                ticks += stat.ticks;
            }
        }
        to_seconds(ticks)
    }
}

fn to_seconds(ticks: u32) -> f64 {
    f64::from(ticks) / TICKS
}

struct Stat {
    parent: u32,
    ticks: u32,
}

/// A process's parent and its time; the server's counts that of children that ended.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u32>().ok());
    Some(Stat { parent: number(1)?, ticks: number(11)? + number(12)? + number(13)? + number(14)? })
}
