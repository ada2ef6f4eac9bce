//! `fsck`: whether indexes and their storages agree, and what to do where they don't.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use grid_cas::StoreError;
use grid_cas::fsck::{Indexed, Report, fsck};
use grid_cas::index::IndexClock;
use grid_core::SystemClock;

use crate::cli::Fsck;
use crate::compose::Found;
use crate::settings;

/// Looks at every index of a configuration, and repairs it where that is asked for. Succeeds where all agree in the end.
pub(crate) async fn run(arguments: &Fsck, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = settings::read(arguments.config.as_deref())?.sound()?;
    let indexes = super::indexes(&config).await?;
    let mut code = ExitCode::SUCCESS;
    for Found { place, indexed, .. } in indexes {
        match one(&indexed, arguments.repair).await {
            Ok(report) => {
                writeln!(out, "{place}: {report}")?;
                if !report.is_clean() {
                    writeln!(out, "{place}: they don't agree; run fsck --repair")?;
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

async fn one(indexed: &Indexed, repair: bool) -> Result<Report, StoreError> {
    let clock = IndexClock::of(&*indexed.index, Arc::new(SystemClock)).await?;
    fsck(indexed, &clock, repair).await
}
