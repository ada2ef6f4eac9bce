//! [`UploadStore`]: the bytes of uploads that have not ended, so that they can go on, on another replica too.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use grid_core::{Clock, Timestamp};
use grid_scheduler_sql::Database;

use crate::StreamsError;
use crate::sql::{on, signed, unsigned};

/// Unfinished uploads, each a run of parts without gaps. An upload that holds nothing does not exist.
#[async_trait]
pub trait UploadStore: Debug + Send + Sync {
    /// How many bytes of `upload` are kept; 0 where there is none.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn committed(&self, upload: &str) -> Result<u64, StreamsError>;

    /// Keeps a part that starts at `offset`.
    ///
    /// # Errors
    /// [`StreamsError::Offset`] where it does not follow the parts that are there.
    async fn append(&self, upload: &str, offset: u64, part: Bytes) -> Result<(), StreamsError>;

    /// The part that starts at `offset`, as it was kept.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn part(&self, upload: &str, offset: u64) -> Result<Option<Bytes>, StreamsError>;

    /// Forgets an upload; one that is not there counts as forgotten.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn remove(&self, upload: &str) -> Result<(), StreamsError>;

    /// Forgets uploads that have not grown since `before`; tells how many parts they had.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn expire(&self, before: Timestamp) -> Result<u64, StreamsError>;
}

/// Uploads in a database.
#[derive(Clone, Debug)]
pub struct SqlUploadStore {
    database: Database,
    clock: Arc<dyn Clock>,
}

impl SqlUploadStore {
    /// Uploads in `database`, whose schema is up to date.
    #[must_use]
    pub fn new(database: Database, clock: Arc<dyn Clock>) -> Self {
        Self { database, clock }
    }
}

#[async_trait]
impl UploadStore for SqlUploadStore {
    async fn committed(&self, upload: &str) -> Result<u64, StreamsError> {
        const SQL: &str =
            "SELECT start_at + length FROM upload_parts WHERE upload = $1 ORDER BY start_at DESC LIMIT 1";
        let end: Option<i64> =
            on!(&self.database, pool => sqlx::query_scalar(SQL).bind(upload).fetch_optional(pool).await?);
        Ok(unsigned(end.unwrap_or(0)))
    }

    async fn append(&self, upload: &str, offset: u64, part: Bytes) -> Result<(), StreamsError> {
        // The part goes in only where the one before it ends at its start, or where it is the first.
        const SQL: &str = "INSERT INTO upload_parts (upload, start_at, length, content, kept_at) \
            SELECT $1, $2, $3, $4, $5 WHERE $2 = COALESCE((SELECT max(start_at + length) FROM upload_parts \
            WHERE upload = $1), 0) ON CONFLICT DO NOTHING";
        let now = self.clock.now().0;
        let done = on!(&self.database, pool => sqlx::query(SQL)
            .bind(upload).bind(signed(offset)).bind(signed(part.len() as u64)).bind(&part[..]).bind(now)
            .execute(pool).await?.rows_affected());
        if done == 0 {
            let committed = self.committed(upload).await?;
            return Err(StreamsError::Offset { given: offset, committed });
        }
        Ok(())
    }

    async fn part(&self, upload: &str, offset: u64) -> Result<Option<Bytes>, StreamsError> {
        const SQL: &str = "SELECT content FROM upload_parts WHERE upload = $1 AND start_at = $2";
        let content: Option<Vec<u8>> = on!(&self.database, pool => sqlx::query_scalar(SQL)
            .bind(upload).bind(signed(offset)).fetch_optional(pool).await?);
        Ok(content.map(Bytes::from))
    }

    async fn remove(&self, upload: &str) -> Result<(), StreamsError> {
        const SQL: &str = "DELETE FROM upload_parts WHERE upload = $1";
        on!(&self.database, pool => sqlx::query(SQL).bind(upload).execute(pool).await.map(|_| ())?);
        Ok(())
    }

    async fn expire(&self, before: Timestamp) -> Result<u64, StreamsError> {
        const SQL: &str = "DELETE FROM upload_parts WHERE upload IN \
            (SELECT upload FROM upload_parts GROUP BY upload HAVING max(kept_at) < $1)";
        Ok(on!(&self.database, pool => sqlx::query(SQL).bind(before.0).execute(pool).await?.rows_affected()))
    }
}
