//! [`Bus`]: BuildGrid's monitoring bus: samples, and in two of its forms log records, published as they come.
//!
//! Whoever measures hands over a [`Sample`] and goes on; a task writes them ([`writer`]). What can't be written in time is
//! dropped and counted, never waited for. The forms are in [`statsd`] and [`record`].

mod record;
mod statsd;
mod writer;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

pub use self::statsd::line as statsd_line;
use crate::Metrics;

/// How many samples may wait to be written.
const QUEUE: usize = 10_000;

/// Where samples go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, to its end.
    File(PathBuf),
    /// A UNIX socket that somebody listens on.
    Socket(PathBuf),
    /// `HOST:PORT`, by UDP.
    Udp(String),
}

/// The form of what is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Length-delimited protocol buffers.
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
    pub name: &'static str,
    /// What was measured.
    pub value: Value,
    /// Tags; those with empty values are left out.
    pub tags: Vec<(&'static str, Cow<'static, str>)>,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
struct LogLine {
    domain: String,
    level: tracing::Level,
    message: String,
    fields: BTreeMap<String, String>,
}

#[derive(Debug)]
enum Record {
    Sample(SystemTime, Sample),
    Log(SystemTime, LogLine),
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

    /// Publishes a sample.
    pub fn send(&self, sample: Sample) {
        self.push(Record::Sample(SystemTime::now(), sample));
    }

    fn push(&self, record: Record) {
        if self.sender.try_send(record).is_err() {
            self.dropped.inc();
        }
    }
}

/// Publishes what is logged, where there is a bus for it.
#[derive(Debug)]
pub(crate) struct LogRecords;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for LogRecords {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let Some(bus) = LOGS.get() else { return };
        let metadata = event.metadata();
        let mut line = LogLine {
            domain: metadata.target().to_owned(),
            level: *metadata.level(),
            message: String::new(),
            fields: BTreeMap::new(),
        };
        event.record(&mut line);
        bus.push(Record::Log(SystemTime::now(), line));
    }
}

impl tracing::field::Visit for LogLine {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let value = format!("{value:?}");
        if field.name() == "message" {
            self.message = value;
        } else {
            self.fields.insert(field.name().to_owned(), value);
        }
    }

    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.fields.insert(field.name().to_owned(), value.to_owned());
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
