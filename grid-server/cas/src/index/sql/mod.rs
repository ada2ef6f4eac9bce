//! The index in a database: PostgreSQL, shared by any number of servers, or an SQLite file of one.
//!
//! The tables are those of the migrations `02xx_cas_*`; several storages share them, told apart by a name.

mod postgres;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use grid_core::{Digest, DigestFunction};

pub use self::postgres::PostgresIndex;
pub use self::sqlite::SqliteIndex;
use super::BlobIndex;
use crate::StoreError;
pub use crate::sql::SqlPool;
use crate::sql::{error, signed, unsigned};

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
