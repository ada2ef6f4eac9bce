//! [`BuildGrid`]: what BuildGrid keeps of a storage in the same PostgreSQL database, and how it is taken over.
//!
//! Its tables are those of BuildGrid 0.8 and later, in the schema `public`; ours are in a schema of their own. Taking over
//! only reads its tables, so that BuildGrid works on, and again after a rollback. Until somebody says that it no longer
//! uses the storage ([`BuildGrid::finish`]), what it has indexed is not only ours to delete: whoever deletes asks
//! [`BuildGrid::guard`] first.

mod blobs;
mod import;
mod shared;
mod splices;

use std::sync::Arc;

use grid_core::{Digest, DigestFunction, Timestamp};
use sqlx::PgPool;

pub use self::blobs::{Copied, blob_rows, import_blobs};
pub use self::import::Imported;
use self::shared::Shared;
use crate::StoreError;
use crate::index::BlobIndex;
use crate::sql::error;

const TABLES: &str = "
SELECT to_regclass('public.index_metadata') IS NOT NULL, to_regclass('public.index_blob_chunks') IS NOT NULL";
const IN_USE: &str = "
SELECT EXISTS (SELECT 1 FROM public.index_metadata) AND NOT EXISTS (SELECT 1 FROM cas_taken_over WHERE store = $1)";
const FINISH: &str = "
INSERT INTO cas_taken_over (store, since) VALUES ($1, $2) ON CONFLICT (store) DO NOTHING";

/// An index of BuildGrid beside one of ours.
#[derive(Clone, Debug)]
pub struct BuildGrid {
    pool: PgPool,
    store: Arc<str>,
    name: Arc<str>,
}

/// Which tables of BuildGrid a database has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tables {
    None,
    Outdated,
    Current,
}

impl BuildGrid {
    /// What there may be beside our index `store` of the database `pool`, which is called `name` in errors.
    #[must_use]
    pub fn new(pool: PgPool, store: Arc<str>, name: Arc<str>) -> Self {
        Self { pool, store, name }
    }

    /// Whether there is an index of BuildGrid with something in it, and nobody has said that its storage is ours alone.
    ///
    /// # Errors
    /// The database's trouble, here and everywhere.
    pub async fn is_in_use(&self) -> Result<bool, StoreError> {
        if self.tables().await? == Tables::None {
            return Ok(false);
        }
        let query = sqlx::query_scalar(IN_USE).bind(&*self.store).fetch_one(&self.pool);
        query.await.map_err(|source| self.error(&source))
    }

    /// Notes that BuildGrid no longer uses the storage.
    ///
    /// # Errors
    /// As [`BuildGrid::is_in_use`].
    pub async fn finish(&self, now: Timestamp) -> Result<(), StoreError> {
        let query = sqlx::query(FINISH).bind(&*self.store).bind(now.0).execute(&self.pool);
        query.await.map(drop).map_err(|source| self.error(&source))
    }

    /// The index through which may be deleted what `index` names: itself, where the storage is ours alone; else, where
    /// `shared` says that deletions are to reach BuildGrid's index too, one that sees to that.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where BuildGrid uses the storage and `shared` is not said; as [`BuildGrid::is_in_use`].
    pub async fn guard(
        &self,
        index: &Arc<dyn BlobIndex>,
        shared: bool,
    ) -> Result<Arc<dyn BlobIndex>, StoreError> {
        match (self.is_in_use().await?, shared) {
            (false, _) => Ok(Arc::clone(index)),
            (true, true) => Ok(Arc::new(Shared::new(Arc::clone(index), self.clone()))),
            (true, false) => Err(self.refused(
                "BuildGrid has an index of its storage in the same database. While BuildGrid uses it, delete with \
                 --shared, which takes what is deleted out of BuildGrid's index; afterwards say so by `grid-server \
                 migrate --finish-import`",
            )),
        }
    }

    async fn tables(&self) -> Result<Tables, StoreError> {
        let query = sqlx::query_as(TABLES).fetch_one(&self.pool);
        let (index, chunks) = query.await.map_err(|source| self.error(&source))?;
        Ok(match (index, chunks) {
            (false, _) => Tables::None,
            (true, false) => Tables::Outdated,
            (true, true) => Tables::Current,
        })
    }

    fn refused(&self, message: &str) -> StoreError {
        StoreError::Refused { backend: Arc::clone(&self.name), message: message.to_owned() }
    }

    fn error(&self, source: &sqlx::Error) -> StoreError {
        error(&self.name, source)
    }
}

/// A digest of BuildGrid, whose only function is SHA-256; `None` for what is none, and for the empty blob.
fn digest_of(hash: &str, size: i64) -> Option<Digest> {
    let size = u64::try_from(size).ok().filter(|size| *size > 0)?;
    Digest::new(DigestFunction::Sha256, &hex::decode(hash).ok()?, size).ok()
}
