//! Schema migrations of the whole database: the queue's tables and those of every other component.
//!
//! They are append-only files that are part of the binary. During a rolling upgrade the old version works on, and
//! starts again, on a database that the new one has migrated: a migration only adds, and what nobody uses any more is
//! taken away by a later version. The name of a migration that takes away ends in `_needs_NNNN`, the number of
//! the migration that came with the first version which can do without; versions that don't know that one refuse the
//! database, all others leave alone what they don't know.

use std::sync::LazyLock;

use sqlx::migrate::{MigrateError, Migrator};
use thiserror::Error;

use crate::database::{Database, SCHEMA};

static POSTGRES: LazyLock<Migrator> = LazyLock::new(|| bearing(sqlx::migrate!("../../migrations/postgres")));
static SQLITE: LazyLock<Migrator> = LazyLock::new(|| bearing(sqlx::migrate!("../../migrations/sqlite")));

/// Migrations of newer versions are no error of its own: [`pending`] judges them.
fn bearing(mut migrator: Migrator) -> Migrator {
    migrator.set_ignore_missing(true);
    migrator
}

/// Why a database is not at this binary's version.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// Migrations have yet to be run.
    #[error("the database lacks {} migrations ({}); run `grid-server migrate`", .0.len(), .0.join(", "))]
    Behind(Vec<String>),
    /// A newer version of the server has taken away what this one uses.
    #[error("the database has migration {0}, which this version can't work with; run a newer version")]
    Newer(String),
    /// Migrating failed.
    #[error("migration failed: {0}")]
    Failed(#[from] MigrateError),
    /// The database can't be used.
    #[error("the database can't be used: {0}")]
    Database(#[from] sqlx::Error),
}

impl SchemaError {
    /// Whether the database is away, so that it is right to try again.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        let source = match self {
            Self::Database(source) | Self::Failed(MigrateError::Execute(source)) => source,
            Self::Behind(_) | Self::Newer(_) | Self::Failed(_) => return false,
        };
        match source {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
            // Starting up, shutting down, no connection left; another process migrates.
            sqlx::Error::Database(error) => error
                .code()
                .is_some_and(|code| code.starts_with("57P") || ["53300", "55P03"].contains(&&*code)),
            _ => false,
        }
    }
}

/// Runs what has not been run yet. Safe to call from many processes at once: they take turns by an advisory lock.
///
/// # Errors
/// [`SchemaError::Newer`], [`SchemaError::Failed`], [`SchemaError::Database`].
pub async fn migrate(database: &Database) -> Result<(), SchemaError> {
    if dry_run(database).await?.is_empty() {
        return Ok(());
    }
    match database {
        Database::Postgres(pool) => {
            let create = format!("CREATE SCHEMA IF NOT EXISTS {SCHEMA}");
            // Two processes that create it at once: the one that loses finds it there.
            if let Err(error) = sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(pool).await
                && !error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
            {
                return Err(error.into());
            }
            POSTGRES.run(pool).await?;
        }
        Database::Sqlite(pool) => SQLITE.run(pool).await?,
    }
    Ok(())
}

/// What [`migrate`] would run, as `VERSION DESCRIPTION`.
///
/// # Errors
/// [`SchemaError::Newer`], [`SchemaError::Database`].
pub async fn dry_run(database: &Database) -> Result<Vec<String>, SchemaError> {
    const APPLIED: &str = "SELECT version, description FROM _sqlx_migrations WHERE success";
    let there = match database {
        Database::Postgres(_) => "SELECT to_regclass('grid._sqlx_migrations') IS NOT NULL",
        Database::Sqlite(_) => "SELECT count(*) > 0 FROM sqlite_master WHERE name = '_sqlx_migrations'",
    };
    let applied: Vec<Applied> = match database {
        Database::Postgres(pool) if sqlx::query_scalar(there).fetch_one(pool).await? => {
            sqlx::query_as(APPLIED).fetch_all(pool).await?
        }
        Database::Sqlite(pool) if sqlx::query_scalar(there).fetch_one(pool).await? => {
            sqlx::query_as(APPLIED).fetch_all(pool).await?
        }
        Database::Postgres(_) | Database::Sqlite(_) => Vec::new(),
    };
    let known = if matches!(database, Database::Postgres(_)) { &POSTGRES } else { &SQLITE };
    let known: Vec<Applied> = known.iter().map(|m| (m.version, m.description.to_string())).collect();
    pending(&known, &applied)
}

/// Whether the database is at this binary's version, or at a newer one that it can work with.
///
/// # Errors
/// [`SchemaError::Behind`] and those of [`dry_run`].
pub async fn check(database: &Database) -> Result<(), SchemaError> {
    let pending = dry_run(database).await?;
    if pending.is_empty() { Ok(()) } else { Err(SchemaError::Behind(pending)) }
}

/// A migration's number and the words of its file name.
type Applied = (i64, String);

/// What of the known migrations has not been applied, unless something was applied that takes away what is needed.
fn pending(known: &[Applied], applied: &[Applied]) -> Result<Vec<String>, SchemaError> {
    let is_in = |these: &[Applied], version: i64| these.iter().any(|(v, _)| *v == version);
    let text = |(version, description): &Applied| format!("{version:04} {description}");
    let bearable = |(version, description): &&Applied| {
        let needs = description.rsplit_once(" needs ").map(|(_, needed)| needed.parse::<i64>());
        is_in(known, *version) || needs.is_none_or(|needs| needs.is_ok_and(|needed| is_in(known, needed)))
    };
    if let Some(unbearable) = applied.iter().find(|applied| !bearable(applied)) {
        return Err(SchemaError::Newer(text(unbearable)));
    }
    Ok(known.iter().filter(|(version, _)| !is_in(applied, *version)).map(text).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(rows: &[(i64, &str)]) -> Vec<Applied> {
        rows.iter().map(|(version, description)| (*version, (*description).to_owned())).collect()
    }

    #[test]
    fn a_newer_schema_is_borne_unless_it_takes_away_what_is_needed() {
        let known = named(&[(1, "queue"), (2, "fleet")]);
        let with = |newer| [known.clone(), named(&[newer])].concat();
        assert!(pending(&known, &with((3, "history"))).unwrap().is_empty());
        assert!(pending(&known, &with((9, "drop x needs 0002"))).unwrap().is_empty());
        for refused in ["drop x needs 0003", "drop x needs anything"] {
            let error = pending(&known, &with((9, refused))).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "the database has migration 0009 {refused}, which this version can't work with; run a newer version"
                )
            );
        }
        // Newer in one part of the database, behind in another.
        assert_eq!(pending(&known, &named(&[(1, "queue"), (3, "history")])).unwrap(), ["0002 fleet"]);
    }

    #[test]
    fn both_databases_have_the_same_migrations_and_know_what_those_need() {
        let names = |migrator: &Migrator| -> Vec<Applied> {
            migrator.iter().map(|m| (m.version, m.description.to_string())).collect()
        };
        assert_eq!(names(&POSTGRES), names(&SQLITE));
        let all = names(&SQLITE);
        for (version, description) in &all {
            let Some((_, needed)) = description.rsplit_once(" needs ") else { continue };
            let needed: i64 = needed.parse().unwrap();
            assert!(all.iter().any(|(v, _)| *v == needed), "{version} needs {needed}");
        }
    }
}
