//! `cleanup`: keeps storages within their watermarks.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use grid_telemetry::Metrics;
use grid_telemetry::cleanup::CleanupMetrics;
use tokio::net::TcpListener;

use crate::cleaning::{self, Cleaner};
use crate::cli::{Bounds, Cleanup};
use crate::readiness::Readiness;
use crate::{admin, compose, monitoring, settings};

/// Cleans what the configuration's `cleanup` names: once, or until the process is asked to end.
pub(crate) async fn run(arguments: &Cleanup, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = settings::read(arguments.config.as_deref())?.sound()?;
    if config.cleanup.is_empty() {
        bail!("the configuration has no `cleanup`: it says which index is kept within which watermarks");
    }
    let metrics = Metrics::default();
    let bus = monitoring::bus(&config, &metrics);
    let counts = CleanupMetrics::new(&metrics, bus.clone());
    let mut cleaners = compose::cleaners(&config, &metrics, bus.clone()).await?;
    for cleaner in &mut cleaners {
        bound(cleaner, &arguments.bounds)?;
        cleaner.policy.dry_run = arguments.dry_run;
        cleaner.shared = arguments.shared;
    }
    if arguments.once || arguments.dry_run {
        let code = once(&cleaners, &counts, out).await;
        monitoring::flush(bus).await;
        return code;
    }
    if let Some(address) = arguments.admin {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("can't listen on {address} (admin)"))?;
        tracing::info!("admin on http://{}", listener.local_addr()?);
        tokio::spawn(admin::serve(listener, metrics, Readiness::default()));
    }
    tokio::select! {
        () = cleaning::keep(cleaners, counts, arguments.sleep_interval) => {}
        asked = super::asked_to_end() => asked?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn once(
    cleaners: &[Cleaner],
    counts: &CleanupMetrics,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for cleaner in cleaners {
        match cleaner.pass(counts).await {
            Ok(report) => writeln!(out, "{}: {report}", cleaner.name)?,
            Err(error) => {
                writeln!(out, "{}: failed: {error}", cleaner.name)?;
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Puts what the command line says in place of what the configuration does.
fn bound(cleaner: &mut Cleaner, bounds: &Bounds) -> anyhow::Result<()> {
    let policy = &mut cleaner.policy;
    policy.high_bytes = bounds.high_watermark.unwrap_or(policy.high_bytes);
    policy.low_bytes = bounds.low_watermark.unwrap_or(policy.low_bytes);
    policy.batch_bytes = bounds.batch_size.unwrap_or(policy.batch_bytes);
    policy.only_if_unused_for = bounds.only_if_unused_for.unwrap_or(policy.only_if_unused_for);
    if policy.low_bytes > policy.high_bytes {
        bail!(
            "{}: the low watermark, {} bytes, is above the high one, {} bytes",
            cleaner.name,
            policy.low_bytes,
            policy.high_bytes
        );
    }
    Ok(())
}
