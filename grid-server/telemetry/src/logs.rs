//! The log: one line an event, as text or as JSON.
//!
//! Calls run within spans (`grid-rpc` makes them) that carry the ids of invocation, action, operation and trace, so that
//! each line within them does too. `RUST_LOG` says
//! what is logged, in `tracing`'s syntax; without it that is `info`, or `debug` for our own crates with `-v`.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;

use crate::bus::LogRecords;

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

/// Starts logging to standard error.
///
/// # Errors
/// Where the process logs already.
pub fn init(format: LogFormat, verbose: bool) -> Result<(), TryInitError> {
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;

    let builder = tracing_subscriber::fmt().with_env_filter(filter(verbose)).with_writer(io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(false).finish().with(LogRecords).try_init(),
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(true).finish().with(LogRecords).try_init()
        }
    }
}

fn filter(verbose: bool) -> EnvFilter {
    const OURS: [&str; 7] = [
        "grid_server",
        "grid_rpc",
        "grid_cas",
        "grid_cache",
        "grid_scheduler",
        "grid_scheduler_sql",
        "grid_streams",
    ];
    let default = if verbose {
        OURS.iter().fold("info".to_owned(), |filter, ours| format!("{filter},{ours}=debug"))
    } else {
        "info".to_owned()
    };
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default))
}
