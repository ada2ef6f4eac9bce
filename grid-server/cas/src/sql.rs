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
        // A connection that broke off in the middle of a message.
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => unavailable(message),
        sqlx::Error::Database(database) => {
            by_code(backend, database.code().as_deref().unwrap_or_default(), message)
        }
        _ => StoreError::Internal { backend, message },
    }
}

/// What PostgreSQL's SQLSTATE means, or SQLite's extended result code in decimal.
fn by_code(backend: Arc<str>, code: &str, message: String) -> StoreError {
    match code {
        "28P01" | "28000" | "3D000" | "42501" | "42P01" => {
            StoreError::Refused { backend, message: format!("{message}; {}", remedy(code)) }
        }
        // No room on the disk; SQLite: full.
        "53100" | "13" => StoreError::Full { backend, message },
        // A lock that was waited for too long, a primary that has just become a standby; SQLite: busy, locked.
        "55P03" | "25006" | "5" | "6" | "261" | "517" => {
            StoreError::Unavailable { backend, message, retry_after: None }
        }
        _ => match code.get(..2) {
            // Connections, resources, an operator's shutdown, the system's errors, serialization and deadlocks.
            Some("08" | "53" | "57" | "58" | "40") if code.len() == 5 => {
                StoreError::Unavailable { backend, message, retry_after: None }
            }
            _ => StoreError::Internal { backend, message },
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_from_the_rest() {
        let meaning = |code| by_code("index".into(), code, String::new());
        for code in ["08006", "57P01", "58030", "53300", "40P01", "55P03", "25006", "5", "261", "517"] {
            assert!(matches!(meaning(code), StoreError::Unavailable { .. }), "{code}");
        }
        for code in ["53100", "13"] {
            assert!(matches!(meaning(code), StoreError::Full { .. }), "{code}");
        }
        assert!(matches!(meaning("42P01"), StoreError::Refused { .. }));
        for code in ["23505", "1", "2067", ""] {
            assert!(matches!(meaning(code), StoreError::Internal { .. }), "{code}");
        }
        let broken_off = error(&"index".into(), &sqlx::Error::Protocol("unexpected end".into()));
        assert!(matches!(broken_off, StoreError::Unavailable { .. }));
    }
}
