//! `janitor`: deletes what storages hold and no index knows.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use grid_cas::StoreError;
use grid_cas::index::IndexClock;
use grid_cas::janitor::{Options, Report, sweep};
use grid_core::{Digest, SystemClock};
use grid_telemetry::Metrics;
use grid_telemetry::cleanup::CleanupMetrics;

use crate::cli::Janitor;
use crate::compose::Found;
use crate::{monitoring, settings};

/// Looks through the storage behind every index of a configuration, once.
pub(crate) async fn run(arguments: &Janitor, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = settings::read(arguments.config.as_deref())?.sound()?;
    let metrics = Metrics::default();
    let bus = monitoring::bus(&config, &metrics);
    let counts = CleanupMetrics::new(&metrics, bus.clone());
    let indexes = super::indexes(&config).await?;
    let options = Options { min_age: arguments.min_age, dry_run: arguments.dry_run, ..Options::default() };
    let mut code = ExitCode::SUCCESS;
    for found in indexes {
        let place = found.place.clone();
        match one(found, arguments.shared, options, &counts).await {
            Ok(report) => {
                writeln!(out, "{place}: {report}")?;
                if report.failed.blobs > 0 {
                    code = ExitCode::FAILURE;
                }
            }
            Err(error) => {
                writeln!(out, "{place}: failed: {error}")?;
                code = ExitCode::FAILURE;
            }
        }
    }
    monitoring::flush(bus).await;
    Ok(code)
}

async fn one(
    found: Found,
    shared: bool,
    options: Options,
    counts: &CleanupMetrics,
) -> Result<Report, StoreError> {
    let Found { mut indexed, buildgrid, .. } = found;
    if let Some(buildgrid) = buildgrid {
        indexed.index = buildgrid.guard(&indexed.index, shared).await?;
    }
    let clock = IndexClock::of(&*indexed.index, Arc::new(SystemClock)).await?;
    let tell = |orphan: &Digest, age| counts.orphaned(orphan.size(), age);
    sweep(&indexed, &clock, options, &tell).await
}
