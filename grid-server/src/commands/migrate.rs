//! `migrate`: brings a database to this version's schema.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use grid_scheduler_sql::{Database, DatabaseOptions, migrate};

use super::import;
use crate::cli::Migrate;

/// Migrates, or says what migrating would do.
pub(crate) async fn run(arguments: &Migrate, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    if arguments.import_buildgrid || arguments.finish_import {
        return import::run(arguments, out).await;
    }
    let database = Database::open(&url(arguments)?, DatabaseOptions::default()).await?;
    let pending = migrate::dry_run(&database).await?;
    if arguments.check || arguments.dry_run {
        for migration in &pending {
            writeln!(out, "to do: {migration}")?;
        }
        writeln!(out, "{} to do", pending.len())?;
        let behind = arguments.check && !pending.is_empty();
        return Ok(if behind { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    migrate::migrate(&database).await?;
    for migration in &pending {
        writeln!(out, "done: {migration}")?;
    }
    writeln!(out, "the database is at this version's schema")?;
    database.close().await;
    Ok(ExitCode::SUCCESS)
}

fn url(arguments: &Migrate) -> anyhow::Result<String> {
    match (&arguments.database, &arguments.database_file) {
        (Some(url), _) => Ok(url.clone()),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path);
            let text =
                text.with_context(|| format!("the database's URL can't be read from {}", path.display()))?;
            Ok(text.trim().to_owned())
        }
        (None, None) => {
            bail!("name the database: --database URL, or --database-file PATH with the URL in it")
        }
    }
}
