//! The index in a database: PostgreSQL, shared by any number of servers, or an SQLite file of one.
//!
//! The tables are those of the migrations `02xx_cas_*`; several storages share them, told apart by a name.

mod postgres;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use grid_core::{Digest, DigestFunction};
use sqlx::{PgPool, SqlitePool};

pub use self::postgres::PostgresIndex;
pub use self::sqlite::SqliteIndex;
use super::BlobIndex;
use crate::StoreError;

/// A pool of connections; on PostgreSQL with the schema of the migrations in its search path.
#[derive(Clone, Debug)]
pub enum SqlPool {
    /// PostgreSQL.
    Postgres(PgPool),
    /// SQLite.
    Sqlite(SqlitePool),
}

/// How an index in a database is made.
#[derive(Clone, Debug)]
pub struct SqlIndexOptions {
    /// Tells this storage's rows from those of others in the same database.
    pub store: Arc<str>,
    /// How old the note of a blob's last use may become before it is written anew (`refresh-accesstime-older-than`).
    /// Zero writes each use down; an hour spares nearly all writes, and cleanup allows for it.
    pub precision: Duration,
    /// Its place in the configuration, for errors.
    pub name: Arc<str>,
}

/// The index in this database.
#[must_use]
pub fn index(pool: SqlPool, options: SqlIndexOptions) -> Arc<dyn BlobIndex> {
    match pool {
        SqlPool::Postgres(pool) => Arc::new(PostgresIndex::new(pool, options)),
        SqlPool::Sqlite(pool) => Arc::new(SqliteIndex::new(pool, options)),
    }
}

/// A blob's key: the function's number and the hash.
fn key(digest: &Digest) -> Vec<u8> {
    let mut key = Vec::with_capacity(65);
    key.push(digest.function() as u8);
    key.extend_from_slice(digest.hash_bytes());
    key
}

/// The digest of a row.
fn digest(name: &Arc<str>, key: &[u8], size: i64) -> Result<Digest, StoreError> {
    let parsed = key.split_first().and_then(|(function, hash)| {
        let function = DigestFunction::from_wire(i32::from(*function))?;
        Digest::new(function, hash, u64::try_from(size).ok()?).ok()
    });
    let message = || format!("the index has a key that is none: {}", hex::encode(key));
    parsed.ok_or_else(|| StoreError::Internal { backend: Arc::clone(name), message: message() })
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What a database's error means: the connection's troubles pass, a statement's don't.
fn error(name: &Arc<str>, error: &sqlx::Error) -> StoreError {
    let (backend, message) = (Arc::clone(name), error.to_string());
    let unavailable =
        |message| StoreError::Unavailable { backend: Arc::clone(name), message, retry_after: None };
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => unavailable(message),
        sqlx::Error::Database(database) => match database.code().as_deref() {
            // Wrong password, no such role, no such database, no privilege, no such table.
            Some("28P01" | "28000" | "3D000" | "42501" | "42P01") => StoreError::Refused { backend, message },
            // Connections and resources, an operator's shutdown, serialization and deadlocks; SQLite: busy, locked.
            Some(code) if code.starts_with("08") || code.starts_with("57") || code.starts_with("40") => {
                unavailable(message)
            }
            Some("53300" | "5" | "6") => unavailable(message),
            // No room on the disk; SQLite: full.
            Some("53100" | "13") => StoreError::Full { backend, message },
            _ => StoreError::Internal { backend, message },
        },
        _ => StoreError::Internal { backend, message },
    }
}
