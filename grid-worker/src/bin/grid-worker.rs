//! `grid-worker`: takes actions from a build grid.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use grid_worker::config::{PROBE, Settings};
use grid_worker::{logs, probe, work};

fn main() -> ExitCode {
    // Told apart before the settings are parsed: the probe has none, and the settings have required ones.
    let result = if std::env::args_os().nth(1).is_some_and(|argument| argument == PROBE) {
        logs::start();
        probe::run().context("the probe")
    } else {
        let settings = Settings::parse();
        logs::start();
        tokio::runtime::Runtime::new()
            .context("starting the runtime")
            .and_then(|runtime| runtime.block_on(work::work(settings)))
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
