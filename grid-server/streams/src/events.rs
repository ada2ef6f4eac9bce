//! [`EventStore`]: the events of builds, each once, in the order of their numbers.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use grid_core::{Clock, Timestamp};
use grid_scheduler_sql::Database;
use regex::Regex;
use sqlx::Row;

use crate::StreamsError;
use crate::sql::on;

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place in the stream.
    pub sequence_number: i64,
    /// Its encoding.
    pub event: Bytes,
}

/// A stream with its events in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredStream {
    /// The encoding of the stream's identity.
    pub stream_id: Bytes,
    /// Its events.
    pub events: Vec<StoredEvent>,
}

/// Build events by stream.
#[async_trait]
pub trait EventStore: Debug + Send + Sync {
    /// Keeps events of the stream `name`. Those whose number is there already are left as they are.
    ///
    /// # Errors
    /// [`StreamsError::Database`]: then none of them is kept.
    async fn append(&self, name: &str, stream_id: &[u8], events: &[StoredEvent]) -> Result<(), StreamsError>;

    /// The streams whose names `pattern` finds something in, by name.
    ///
    /// # Errors
    /// [`StreamsError::Pattern`]; [`StreamsError::TooMany`] where the streams or their bytes are more than one
    /// answer holds.
    async fn query(&self, pattern: &str) -> Result<Vec<StoredStream>, StreamsError>;

    /// Removes streams that have not grown since `before`; tells how many.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn expire(&self, before: Timestamp) -> Result<u64, StreamsError>;
}

/// The streams that one query looks through, newest first.
const SCANNED: i64 = 100_000;
/// The bytes that one answer holds; clients take messages of 4 MiB.
const ANSWER_BYTES: usize = 3 << 20;
/// The memory that one pattern may take.
const PATTERN_BYTES: usize = 1 << 20;

/// Build events in a database.
#[derive(Clone, Debug)]
pub struct SqlEventStore {
    database: Database,
    clock: Arc<dyn Clock>,
}

impl SqlEventStore {
    /// Events in `database`, whose schema is up to date.
    #[must_use]
    pub fn new(database: Database, clock: Arc<dyn Clock>) -> Self {
        Self { database, clock }
    }

    async fn events(&self, name: &str, budget: &mut usize) -> Result<Vec<StoredEvent>, StreamsError> {
        // Sizes first, so that no more is fetched than fits.
        const SIZE: &str = "SELECT COALESCE(sum(length(event) + 16), 0) FROM build_events WHERE name = $1";
        const SQL: &str =
            "SELECT sequence_number, event FROM build_events WHERE name = $1 ORDER BY sequence_number";
        let size: i64 = match &self.database {
            Database::Postgres(pool) => {
                // PostgreSQL's sum is of another type than what it sums.
                let sql =
                    "SELECT COALESCE(sum(length(event) + 16), 0)::bigint FROM build_events WHERE name = $1";
                sqlx::query_scalar(sql).bind(name).fetch_one(pool).await?
            }
            Database::Sqlite(pool) => sqlx::query_scalar(SIZE).bind(name).fetch_one(pool).await?,
        };
        let left = budget.checked_sub(usize::try_from(size).unwrap_or(usize::MAX));
        *budget = left.ok_or_else(|| {
            StreamsError::TooMany(format!(
                "the events are more than {ANSWER_BYTES} bytes; narrow the pattern"
            ))
        })?;
        let rows: Vec<(i64, Vec<u8>)> = on!(&self.database, pool => sqlx::query(SQL)
            .bind(name).fetch_all(pool).await?.iter().map(|row| (row.get(0), row.get(1))).collect());
        let event =
            |(sequence_number, event): (i64, Vec<u8>)| StoredEvent { sequence_number, event: event.into() };
        Ok(rows.into_iter().map(event).collect())
    }
}

#[async_trait]
impl EventStore for SqlEventStore {
    async fn append(&self, name: &str, stream_id: &[u8], events: &[StoredEvent]) -> Result<(), StreamsError> {
        const STREAM: &str = "INSERT INTO event_streams (name, stream_id, used_at) VALUES ($1, $2, $3) \
            ON CONFLICT (name) DO UPDATE SET used_at = excluded.used_at";
        let now = self.clock.now().0;
        on!(&self.database, pool => {
            let mut tx = pool.begin().await?;
            sqlx::query(STREAM).bind(name).bind(stream_id).bind(now).execute(&mut *tx).await?;
            for some in events.chunks(500) {
                let mut sql = sqlx::QueryBuilder::new("INSERT INTO build_events (name, sequence_number, event) ");
                sql.push_values(some, |mut row, event| {
                    row.push_bind(name).push_bind(event.sequence_number).push_bind(&event.event[..]);
                });
                sql.push(" ON CONFLICT DO NOTHING");
                sql.build().execute(&mut *tx).await?;
            }
            tx.commit().await?;
        });
        Ok(())
    }

    async fn query(&self, pattern: &str) -> Result<Vec<StoredStream>, StreamsError> {
        const SQL: &str = "SELECT name, stream_id FROM event_streams ORDER BY used_at DESC LIMIT $1";
        let pattern = regex::RegexBuilder::new(pattern)
            .size_limit(PATTERN_BYTES)
            .build()
            .map_err(|error| StreamsError::Pattern(format!("build_id_pattern: {error}")))?;
        let streams: Vec<(String, Vec<u8>)> = on!(&self.database, pool => sqlx::query(SQL)
            .bind(SCANNED).fetch_all(pool).await?.iter().map(|row| (row.get(0), row.get(1))).collect());
        let mut found: Vec<_> =
            streams.into_iter().filter(|(name, _)| Regex::is_match(&pattern, name)).collect();
        found.sort();
        let mut budget = ANSWER_BYTES;
        let mut answer = Vec::with_capacity(found.len().min(1_000));
        for (name, stream_id) in found {
            let events = self.events(&name, &mut budget).await?;
            answer.push(StoredStream { stream_id: stream_id.into(), events });
        }
        Ok(answer)
    }

    async fn expire(&self, before: Timestamp) -> Result<u64, StreamsError> {
        const SQL: &str = "DELETE FROM event_streams WHERE used_at < $1";
        Ok(on!(&self.database, pool => sqlx::query(SQL).bind(before.0).execute(pool).await?.rows_affected()))
    }
}
