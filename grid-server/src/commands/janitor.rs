//! `janitor`: deletes what storages hold and no index knows.

use std::io::Write;
use std::process::ExitCode;

use grid_cas::janitor::{Options, sweep};
use grid_core::SystemClock;

use crate::cli::Janitor;

/// Looks through the storage behind every index of a configuration, once.
pub(crate) async fn run(arguments: &Janitor, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let indexes = super::indexes(arguments.config.as_deref()).await?;
    let options = Options { min_age: arguments.min_age, dry_run: arguments.dry_run, ..Options::default() };
    let mut code = ExitCode::SUCCESS;
    for (place, indexed) in indexes {
        match sweep(&indexed, &SystemClock, options).await {
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
    Ok(code)
}
