//! The index in a database: PostgreSQL, shared by any number of servers, or an SQLite file of one.
//!
//! The tables are those of the migrations `02xx_cas_*`; several storages share them, told apart by a name.

mod postgres;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use grid_core::Digest;

pub use self::postgres::PostgresIndex;
pub(crate) use self::postgres::part;
pub use self::sqlite::SqliteIndex;
use super::{BlobIndex, Pages};
use crate::StoreError;
pub use crate::sql::SqlPool;
use crate::sql::key;

/// How many rows a page of [`BlobIndex::known`] and [`BlobIndex::pins`] has.
const PAGE: i64 = 10_000;

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

/// All rows: `page` gives those whose keys come after the one that it is given, in their order.
fn pages<'a, T, F>(
    page: impl Fn(Vec<u8>) -> F + Copy + Send + 'a,
    digest: impl Fn(&T) -> &Digest + Copy + Send + 'a,
) -> Pages<'a, T>
where
    T: Send + 'a,
    F: Future<Output = Result<Vec<T>, StoreError>> + Send + 'a,
{
    Box::pin(stream::try_unfold(Vec::new(), move |after| async move {
        let page = page(after).await?;
        Ok(page.last().map(|last| key(digest(last))).map(|after| (page, after)))
    }))
}
