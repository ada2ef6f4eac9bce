//! The process's own figures, read from `/proc` when metrics are asked for.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Kernel ticks a second, which Linux fixes for user space.
const TICKS: f64 = 100.0;
/// Where the kernel shows sizes in pages, they are of 4 KiB on every platform that we build for.
const PAGE: i64 = 4096;

/// Memory, processor time and open files of this process.
#[derive(Debug)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(resident) = resident_bytes() {
            let metric = ConstGauge::new(resident);
            let help = "Memory of the process that is in RAM, in bytes";
            metric.encode(encoder.encode_descriptor(
                "process_resident_memory_bytes",
                help,
                None,
                metric.metric_type(),
            )?)?;
        }
        if let Some(seconds) = cpu_seconds() {
            let metric = ConstCounter::new(seconds);
            let help = "Processor time that the process used, in seconds";
            metric.encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                metric.metric_type(),
            )?)?;
        }
        if let Some(open) = open_files() {
            let metric = ConstGauge::new(open);
            let help = "Files and sockets that the process has open";
            metric.encode(encoder.encode_descriptor(
                "process_open_fds",
                help,
                None,
                metric.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<i64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    text.split(' ').nth(1)?.parse::<i64>().ok().map(|pages| pages * PAGE)
}

fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name may hold spaces; what follows its closing parenthesis holds none.
    let mut fields = text.rsplit_once(") ")?.1.split(' ').skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

fn open_files() -> Option<i64> {
    fs::read_dir("/proc/self/fd").ok().and_then(|entries| i64::try_from(entries.count()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metrics;

    #[test]
    fn this_process_has_figures() {
        let metrics = Metrics::default();
        metrics.register_collector(Box::new(Process));
        let text = metrics.encode();
        let figure = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        assert!(figure("grid_process_resident_memory_bytes") > 100_000.0, "{text}");
        assert!(figure("grid_process_open_fds") >= 3.0);
        assert!(figure("grid_process_cpu_seconds_total") >= 0.0);
    }
}
