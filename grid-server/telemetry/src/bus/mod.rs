//! [`Bus`]: BuildGrid's monitoring bus: samples, and in two of its forms log records, published as they come.
//!
//! Whoever measures hands over a [`Sample`] and goes on; a task writes them ([`writer`]). What can't be written in time is
//! dropped and counted, never waited for. The forms are in [`statsd`] and [`record`].

mod log;
mod record;
mod socket;
mod statsd;
mod writer;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use grid_core::ServedCall;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};

use self::log::LogLine;
pub(crate) use self::log::LogRecords;
pub use self::statsd::line as statsd_line;
use crate::Metrics;
use crate::published::short;

/// How many samples may wait to be written.
const QUEUE: usize = 10_000;

/// Where samples go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, to its end.
    File(PathBuf),
    /// A UNIX socket to listen on; all who connect are told.
    Socket(PathBuf),
    /// `HOST:PORT`, by UDP.
    Udp(String),
}

/// The form of what is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Protocol buffers, each after its length as four bytes in the machine's own order.
    Binary,
    /// JSON, one message a line.
    Json,
    /// StatsD lines; they have no form for log records.
    Statsd,
}

/// How tags are written in StatsD lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagFormat {
    /// They aren't.
    None,
    /// `name,key=value:…`
    Influx,
    /// `…|#key:value`
    Dog,
    /// `name;key=value:…`
    Graphite,
}

/// How a [`Bus`] is made.
#[derive(Clone, Debug)]
pub struct BusOptions {
    /// Where to.
    pub target: Target,
    /// In which form.
    pub format: Format,
    /// What every name starts with; may be empty.
    pub prefix: String,
    /// How tags are written.
    pub tags: TagFormat,
    /// Tags that every sample gets.
    pub additional_tags: BTreeMap<String, String>,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// So many more.
    Count(u64),
    /// It took so long.
    Time(Duration),
    /// It is so much now.
    Gauge(f64),
    /// One value of many.
    Distribution(f64),
}

/// One sample, by BuildGrid's name.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Such as `rpc.duration.ms`.
    pub name: Cow<'static, str>,
    /// What was measured.
    pub value: Value,
    /// Tags; those with empty values are left out.
    pub tags: Vec<(&'static str, Cow<'static, str>)>,
}

#[derive(Debug)]
enum Record {
    Sample(SystemTime, Sample),
    Log(SystemTime, LogLine),
    /// Nothing to write: what came before is to be written, and then this answered.
    Flush(oneshot::Sender<()>),
}

/// A way to publish.
#[derive(Clone, Debug)]
pub struct Bus {
    sender: mpsc::Sender<Record>,
    dropped: Counter,
}

/// The bus that log records go to: logging starts before there is a configuration that names one.
static LOGS: OnceLock<Bus> = OnceLock::new();

impl Bus {
    /// Starts publishing. Must be called within a runtime.
    #[must_use]
    pub fn start(options: BusOptions, metrics: &Metrics) -> Self {
        let dropped = Counter::default();
        metrics.register("monitoring_dropped", "Samples that could not be published in time", &dropped);
        let (sender, records) = mpsc::channel(QUEUE);
        let logs = options.format != Format::Statsd;
        tokio::spawn(writer::run(options, records, dropped.clone()));
        let this = Self { sender, dropped };
        if logs {
            // A process has one bus; a second one, in a test, leaves log records to the first.
            let _ = LOGS.set(this.clone());
        }
        this
    }

    /// Publishes a sample. One that is taken while a call is served gets the call's tags, as far as it has none of its own.
    pub fn send(&self, mut sample: Sample) {
        if let Some(call) = ServedCall::current() {
            let of_call: [(&'static str, Cow<'static, str>); 3] = [
                ("serviceName", short(call.service).into()),
                ("method", call.method.into()),
                ("instanceName", call.instance.label().to_owned().into()),
            ];
            for (name, value) in of_call {
                if sample.tags.iter().all(|(own, _)| *own != name) {
                    sample.tags.push((name, value));
                }
            }
        }
        self.push(Record::Sample(SystemTime::now(), sample));
    }

    /// Waits until everything is written, or dropped, that was sent before; for a while at most.
    pub async fn flush(&self, within: Duration) {
        let (written, heard) = oneshot::channel();
        let flush = async {
            if self.sender.send(Record::Flush(written)).await.is_ok() {
                let _ = heard.await;
            }
        };
        // What takes longer than this is lost with the process.
        let _ = tokio::time::timeout(within, flush).await;
    }

    fn push(&self, record: Record) {
        if self.sender.try_send(record).is_err() {
            self.dropped.inc();
        }
    }
}

/// A sample's tags with those that all get, by name; empty ones are left out.
fn tags(sample: &Sample, additional: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let own = sample.tags.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into_owned()));
    let all = additional.clone().into_iter().chain(own);
    all.filter(|(_, value)| !value.is_empty()).collect()
}

fn full_name(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}
