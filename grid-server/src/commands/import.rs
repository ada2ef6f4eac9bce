//! `migrate --import-buildgrid` and `--finish-import`: what BuildGrid indexed and stored becomes ours.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use grid_cas::buildgrid::{BuildGrid, Imported, blob_rows, import_blobs};
use grid_core::{Clock as _, SystemClock};
use parking_lot::Mutex;

use crate::cli::Migrate;
use crate::compose::{Import, Source, imports};
use crate::settings;

/// How often an import that takes long says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);
const NOTHING: &str = "BuildGrid has nothing there";

/// Takes over, then notes that BuildGrid is out of use: what of the two is asked for, for all that a configuration names.
pub(crate) async fn run(arguments: &Migrate, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = settings::read(arguments.config.as_deref())?.sound()?;
    let found = imports(&config, !arguments.dry_run).await?;
    anyhow::ensure!(
        !found.is_empty(),
        "the configuration has neither an !sql-index nor an !sql-storage in PostgreSQL: what BuildGrid keeps elsewhere \
         is served as it is"
    );
    for import in &found {
        let place = &import.place;
        if arguments.import_buildgrid {
            let said = take_over(import, arguments.dry_run).await.with_context(|| place.to_string())?;
            writeln!(out, "{place}: {said}")?;
        }
        if arguments.finish_import
            && let Source::Index(buildgrid) = &import.source
        {
            buildgrid.finish(SystemClock.now()).await.with_context(|| place.to_string())?;
            writeln!(out, "{place}: its storage is this grid's alone")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn take_over(import: &Import, dry_run: bool) -> anyhow::Result<String> {
    let said = match &import.source {
        Source::Index(buildgrid) if dry_run => {
            buildgrid.rows().await?.map(|rows| format!("would take over {rows} blobs of BuildGrid's index"))
        }
        Source::Blobs(pool) if dry_run => {
            let rows = blob_rows(pool, &Arc::from(import.place.to_string())).await?;
            rows.map(|rows| format!("would copy {rows} blobs of BuildGrid's table"))
        }
        Source::Index(buildgrid) => take_index(import, buildgrid).await?.map(|done| done.to_string()),
        Source::Blobs(pool) => {
            let name = Arc::from(import.place.to_string());
            import_blobs(pool, &name, &import.store).await?.map(|done| done.to_string())
        }
    };
    Ok(said.unwrap_or_else(|| NOTHING.to_owned()))
}

async fn take_index(import: &Import, buildgrid: &BuildGrid) -> anyhow::Result<Option<Imported>> {
    let told = Mutex::new(Instant::now());
    let tell = |done: &Imported| {
        let mut told = told.lock();
        if told.elapsed() >= TELL_EVERY {
            *told = Instant::now();
            tracing::info!(place = %import.place, "{done} so far");
        }
    };
    Ok(buildgrid.import(&import.store, &SystemClock, &tell).await?)
}
