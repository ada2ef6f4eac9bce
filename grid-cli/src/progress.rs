//! One line on the terminal that says how far a transfer got.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::args::connection::ProgressMode;

const REDRAW: Duration = Duration::from_millis(150);
/// Erases the line that the cursor is on.
const ERASE: &str = "\r\x1b[2K";

/// The progress of one transfer. The line is drawn on the process's standard error and erased when this is
/// dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    counters: Arc<Counters>,
    painter: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counters {
    blobs: AtomicU64,
    blobs_total: AtomicU64,
    bytes: AtomicU64,
    bytes_total: AtomicU64,
}

impl Progress {
    /// Shows `verb`, such as "uploading", if `mode` and the terminal allow it.
    pub(crate) fn start(mode: ProgressMode, verb: &'static str) -> Self {
        let counters = Arc::new(Counters::default());
        let shown = match mode {
            ProgressMode::Always => true,
            ProgressMode::Never => false,
            ProgressMode::Auto => std::io::stderr().is_terminal(),
        };
        let painter = shown.then(|| tokio::spawn(paint(Arc::clone(&counters), verb)));
        Self { counters, painter }
    }

    /// So much more there is to do.
    pub(crate) fn expect(&self, blobs: u64, bytes: u64) {
        self.counters.blobs_total.fetch_add(blobs, Ordering::Relaxed);
        self.counters.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many more bytes are done.
    pub(crate) fn bytes(&self, bytes: u64) {
        self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// One more blob is done.
    pub(crate) fn blob(&self) {
        self.counters.blobs.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(painter) = self.painter.take() {
            painter.abort();
            draw("");
        }
    }
}

async fn paint(counters: Arc<Counters>, verb: &'static str) {
    let begin = Instant::now();
    let mut ticks = interval(REDRAW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        draw(&counters.line(verb, begin.elapsed()));
    }
}

fn draw(line: &str) {
    // A terminal that is gone is no reason to stop the transfer.
    let _ = std::io::stderr().write_all(format!("{ERASE}{line}").as_bytes());
}

impl Counters {
    fn line(&self, verb: &str, elapsed: Duration) -> String {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (blobs, blobs_total) = (get(&self.blobs), get(&self.blobs_total));
        let (done, total) = (get(&self.bytes), get(&self.bytes_total));
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = size(done.saturating_mul(1000) / millis);
        format!("{verb} {blobs}/{blobs_total} blobs, {}/{}, {rate}/s", size(done), size(total))
    }
}

/// A number of bytes for people: three digits or so, binary units.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let exponent = usize::try_from((bytes.ilog2() / 10).min(5)).unwrap_or(1);
    let unit = 1_u64 << (10 * exponent);
    let tenths = u128::from(bytes) * 10 / u128::from(unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[exponent - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        let cases =
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(u64::MAX), "16383.9 PiB");
    }

    #[tokio::test]
    async fn the_line_tells_what_is_done_of_what() {
        let progress = Progress::start(ProgressMode::Never, "uploading");
        progress.expect(2, 2048);
        progress.bytes(1024);
        progress.blob();
        let line = progress.counters.line("uploading", Duration::from_secs(1));
        assert_eq!(line, "uploading 1/2 blobs, 1.0 KiB/2.0 KiB, 1.0 KiB/s");
    }
}
