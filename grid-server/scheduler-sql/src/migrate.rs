//! Schema migrations of the whole database: the queue's tables and those of every other component.
//!
//! They are append-only files that are part of the binary. A database that has migrations which this binary does
//! not know is left alone: a newer version wrote it.

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use thiserror::Error;

use crate::database::{Database, SCHEMA};

static POSTGRES: Migrator = sqlx::migrate!("../../migrations/postgres");
static SQLITE: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// Why a database is not at this binary's version.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// Migrations have yet to be run.
    #[error("the database lacks {} migrations ({}); run `grid-server migrate`", .0.len(), .0.join(", "))]
    Behind(Vec<String>),
    /// A newer version of the server has been here.
    #[error("the database has migration {0}, which this version does not know; run a newer version")]
    Newer(i64),
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
    let run = match database {
        Database::Postgres(pool) => {
            let create = format!("CREATE SCHEMA IF NOT EXISTS {SCHEMA}");
            // Two processes that create it at once: the one that loses finds it there.
            if let Err(error) = sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(pool).await
                && !error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
            {
                return Err(error.into());
            }
            POSTGRES.run(pool).await
        }
        Database::Sqlite(pool) => SQLITE.run(pool).await,
    };
    run.map_err(|error| match error {
        MigrateError::VersionMissing(version) => SchemaError::Newer(version),
        other => SchemaError::Failed(other),
    })
}

/// What [`migrate`] would run, as `VERSION DESCRIPTION`.
///
/// # Errors
/// [`SchemaError::Newer`], [`SchemaError::Failed`], [`SchemaError::Database`].
pub async fn dry_run(database: &Database) -> Result<Vec<String>, SchemaError> {
    match database {
        Database::Postgres(pool) => {
            let (there,): (bool,) = sqlx::query_as("SELECT to_regclass('grid._sqlx_migrations') IS NOT NULL")
                .fetch_one(pool)
                .await?;
            pending(&POSTGRES, if there { Some(pool.acquire().await?) } else { None }).await
        }
        Database::Sqlite(pool) => {
            let (there,): (bool,) =
                sqlx::query_as("SELECT count(*) > 0 FROM sqlite_master WHERE name = '_sqlx_migrations'")
                    .fetch_one(pool)
                    .await?;
            pending(&SQLITE, if there { Some(pool.acquire().await?) } else { None }).await
        }
    }
}

/// Whether the database is at this binary's version.
///
/// # Errors
/// [`SchemaError::Behind`] and those of [`dry_run`].
pub async fn check(database: &Database) -> Result<(), SchemaError> {
    let pending = dry_run(database).await?;
    if pending.is_empty() { Ok(()) } else { Err(SchemaError::Behind(pending)) }
}

async fn pending<DB>(
    known: &Migrator,
    connection: Option<sqlx::pool::PoolConnection<DB>>,
) -> Result<Vec<String>, SchemaError>
where
    DB: sqlx::Database,
    DB::Connection: Migrate,
{
    let applied = match connection {
        Some(mut connection) => connection.list_applied_migrations("_sqlx_migrations").await?,
        None => Vec::new(),
    };
    if let Some(unknown) = applied.iter().find(|a| !known.version_exists(a.version)) {
        return Err(SchemaError::Newer(unknown.version));
    }
    let new = |m: &&sqlx::migrate::Migration| !applied.iter().any(|a| a.version == m.version);
    Ok(known.iter().filter(new).map(|m| format!("{:04} {}", m.version, m.description)).collect())
}
