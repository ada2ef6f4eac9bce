//! What everything of blobs and results that lies in a database has in common: the pool, and what its errors mean.

use std::sync::Arc;

use grid_core::{Digest, DigestFunction};
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

/// A blob's key: the function's number and the hash.
#[must_use]
pub(crate) fn key(digest: &Digest) -> Vec<u8> {
    let mut key = Vec::with_capacity(65);
    key.push(digest.function() as u8);
    key.extend_from_slice(digest.hash_bytes());
    key
}

/// The digest of a row.
pub(crate) fn digest(name: &Arc<str>, key: &[u8], size: i64) -> Result<Digest, StoreError> {
    let parsed = key.split_first().and_then(|(function, hash)| {
        let function = DigestFunction::from_wire(i32::from(*function))?;
        Digest::new(function, hash, u64::try_from(size).ok()?).ok()
    });
    let message = || format!("the index has a key that is none: {}", hex::encode(key));
    parsed.ok_or_else(|| StoreError::Internal { backend: Arc::clone(name), message: message() })
}

/// Keys of blobs as a JSON array of hexadecimal texts.
pub(crate) fn json_keys(digests: &[Digest]) -> String {
    json(digests, |digest| format!("\"{}\"", hex::encode(key(digest))))
}

/// Keys as a JSON array of hexadecimal texts.
pub(crate) fn json_list(keys: &[Vec<u8>]) -> String {
    json(keys, |key| format!("\"{}\"", hex::encode(key)))
}

/// Keys and sizes of blobs as a JSON array of pairs.
pub(crate) fn json_blobs(digests: &[Digest]) -> String {
    json(digests, |digest| format!("[\"{}\",{}]", hex::encode(key(digest)), digest.size()))
}

fn json<T>(items: &[T], element: impl Fn(&T) -> String) -> String {
    let mut json = String::with_capacity(items.len() * 80 + 2);
    json.push('[');
    for item in items {
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&element(item));
    }
    json.push(']');
    json
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
            Some(code @ ("28P01" | "28000" | "3D000" | "42501" | "42P01")) => {
                StoreError::Refused { backend, message: format!("{message}; {}", remedy(code)) }
            }
            // Connections and resources, an operator's shutdown, serialization and deadlocks; SQLite: busy, locked.
            Some(code) if code.starts_with("08") || code.starts_with("57") || code.starts_with("40") => {
                unavailable(message)
            }
            // Too little memory, a lock that was waited for too long, a primary that has just become a standby.
            Some("53200" | "53300" | "55P03" | "25006" | "5" | "6") => unavailable(message),
            // No room on the disk; SQLite: full.
            Some("53100" | "13") => StoreError::Full { backend, message },
            _ => StoreError::Internal { backend, message },
        },
        _ => StoreError::Internal { backend, message },
    }
}

/// What to do about a refusal.
fn remedy(code: &str) -> &'static str {
    match code {
        "28P01" | "28000" => "correct the user and the password of `connection-string`",
        "3D000" => "create the database, or correct its name in `connection-string`",
        "42501" => "let this user read and write the tables",
        _ => "run `grid-server migrate`",
    }
}
