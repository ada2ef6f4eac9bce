//! Logs of both binaries: text on standard error, filtered by `RUST_LOG`, JSON where `GRID_LOG_FORMAT=json`.

use tracing_subscriber::EnvFilter;

/// Starts logging; called once, at the start of the process.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process keeps the first one's settings.
    let _ = if std::env::var("GRID_LOG_FORMAT").is_ok_and(|format| format == "json") {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
}
