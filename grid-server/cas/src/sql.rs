//! What everything of blobs and results that lies in a database has in common: the pool, and what its errors mean.

use std::sync::Arc;

use sqlx::{PgPool, SqlitePool};

use crate::StoreError;

/// A pool of connections; on PostgreSQL with the schema of the migrations in its search path.
#[derive(Clone, Debug)]
pub enum SqlPool {
    /// PostgreSQL.
    Postgres(PgPool),
    /// SQLite.
    Sqlite(SqlitePool),
}

/// A count of a row.
#[must_use]
pub fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// A count for a row.
#[must_use]
pub fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What a database's error means: the connection's troubles pass, a statement's don't.
#[must_use]
pub fn error(name: &Arc<str>, error: &sqlx::Error) -> StoreError {
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
