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
use crate::sql::{on, unsigned};

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

    /// The bytes of a stream's events; 0 where there is none.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn size(&self, name: &str) -> Result<u64, StreamsError>;

    /// Whether a stream has an event whose number is below this one.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn has_before(&self, name: &str, sequence_number: i64) -> Result<bool, StreamsError>;

    /// Removes streams that have not grown since `before`; tells how many.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn expire(&self, before: Timestamp) -> Result<u64, StreamsError>;
}

/// What one query may cost.
#[derive(Clone, Copy, Debug)]
pub struct QueryLimits {
    /// The bytes of events in an answer.
    pub answer_bytes: u64,
    /// The streams whose names are held against the pattern.
    pub scanned: u32,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self { answer_bytes: 64 << 20, scanned: 100_000 }
    }
}

/// The memory that one pattern may take.
const PATTERN_BYTES: usize = 1 << 20;

/// The name of a stream, which patterns are held against: build, component as a number, invocation (BuildGrid's
/// `QueryBuildEvents`). A dot within an identifier is kept apart from those between them.
#[must_use]
pub fn stream_name(build_id: &str, component: i32, invocation_id: &str) -> String {
    let part = |id: &str| id.replace('%', "%25").replace('.', "%2E");
    format!("{}.{component}.{}", part(build_id), part(invocation_id))
}

/// A name as patterns see it: with the identifiers as they were given.
fn shown(name: &str) -> String {
    name.replace("%2E", ".").replace("%25", "%")
}

/// What every name starts with that the pattern finds something in: so that the database leaves out the others.
fn beginning(pattern: &str) -> &str {
    let Some(rest) = pattern.strip_prefix('^').filter(|_| !pattern.contains('|')) else { return "" };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let (literal, rest) = rest.split_at(rest.find(|c| !plain(c)).unwrap_or(rest.len()));
    // The last one may be optional.
    let kept = literal.len().saturating_sub(usize::from(rest.starts_with(['?', '*', '{'])));
    literal.get(..kept).unwrap_or_default()
}

/// Build events in a database.
#[derive(Clone, Debug)]
pub struct SqlEventStore {
    database: Database,
    clock: Arc<dyn Clock>,
    limits: QueryLimits,
}

impl SqlEventStore {
    /// Events in `database`, whose schema is up to date.
    #[must_use]
    pub fn new(database: Database, clock: Arc<dyn Clock>, limits: QueryLimits) -> Self {
        Self { database, clock, limits }
    }

    async fn events(&self, name: &str, budget: &mut u64) -> Result<Vec<StoredEvent>, StreamsError> {
        const SQL: &str =
            "SELECT sequence_number, event FROM build_events WHERE name = $1 ORDER BY sequence_number";
        // Sizes first, so that no more is fetched than fits.
        *budget = budget.checked_sub(self.size(name).await?).ok_or_else(|| {
            let limit = self.limits.answer_bytes;
            StreamsError::TooMany(format!("the events are more than {limit} bytes; narrow the pattern"))
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
        const SQL: &str = "SELECT name, stream_id FROM event_streams WHERE substr(name, 1, $1) = $2 LIMIT $3";
        let beginning = beginning(pattern);
        let length = i32::try_from(beginning.len()).unwrap_or(i32::MAX);
        let pattern = regex::RegexBuilder::new(pattern)
            .size_limit(PATTERN_BYTES)
            .build()
            .map_err(|error| StreamsError::Pattern(format!("build_id_pattern: {error}")))?;
        let streams: Vec<(String, Vec<u8>)> = on!(&self.database, pool => sqlx::query(SQL)
            .bind(length).bind(beginning).bind(i64::from(self.limits.scanned) + 1)
            .fetch_all(pool).await?.iter().map(|row| (row.get(0), row.get(1))).collect());
        if streams.len() > usize::try_from(self.limits.scanned).unwrap_or(usize::MAX) {
            return Err(StreamsError::TooMany(format!(
                "there are more than {} streams to look through; begin the pattern with ^ and a build's identifier",
                self.limits.scanned
            )));
        }
        let mut found: Vec<_> =
            streams.into_iter().filter(|(name, _)| Regex::is_match(&pattern, &shown(name))).collect();
        found.sort();
        let mut budget = self.limits.answer_bytes;
        let mut answer = Vec::with_capacity(found.len().min(1_000));
        for (name, stream_id) in found {
            let events = self.events(&name, &mut budget).await?;
            answer.push(StoredStream { stream_id: stream_id.into(), events });
        }
        Ok(answer)
    }

    async fn size(&self, name: &str) -> Result<u64, StreamsError> {
        const SQLITE: &str = "SELECT COALESCE(sum(length(event) + 16), 0) FROM build_events WHERE name = $1";
        // PostgreSQL's sum is of another type than what it sums.
        const POSTGRES: &str =
            "SELECT COALESCE(sum(length(event) + 16), 0)::bigint FROM build_events WHERE name = $1";
        let size: i64 = match &self.database {
            Database::Postgres(pool) => sqlx::query_scalar(POSTGRES).bind(name).fetch_one(pool).await?,
            Database::Sqlite(pool) => sqlx::query_scalar(SQLITE).bind(name).fetch_one(pool).await?,
        };
        Ok(unsigned(size))
    }

    async fn has_before(&self, name: &str, sequence_number: i64) -> Result<bool, StreamsError> {
        const SQL: &str =
            "SELECT EXISTS (SELECT 1 FROM build_events WHERE name = $1 AND sequence_number < $2)";
        Ok(on!(&self.database, pool => sqlx::query_scalar(SQL)
            .bind(name).bind(sequence_number).fetch_one(pool).await?))
    }

    async fn expire(&self, before: Timestamp) -> Result<u64, StreamsError> {
        const SQL: &str = "DELETE FROM event_streams WHERE used_at < $1";
        Ok(on!(&self.database, pool => sqlx::query(SQL).bind(before.0).execute(pool).await?.rows_affected()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_different_streams_differ_and_are_shown_as_given() {
        let names = [
            stream_name("a", 3, "b"),
            stream_name("a.3.b", 3, "c"),
            stream_name("a", 3, "b.3.c"),
            stream_name("a%2E3", 3, "b"),
        ];
        assert_eq!(names[0], "a.3.b");
        assert_ne!(names[1], names[2]);
        assert_eq!(names.map(|name| shown(&name)), ["a.3.b", "a.3.b.3.c", "a.3.b.3.c", "a%2E3.3.b"]);
    }

    #[test]
    fn only_what_must_be_there_is_asked_of_the_database() {
        for (pattern, expected) in [
            ("^abc-1_2$", "abc-1_2"),
            ("^abc\\.3", "abc"),
            ("^abc+", "abc"),
            ("^abc?", "ab"),
            ("^abc*d", "ab"),
            ("^abc{0}", "ab"),
            ("^?", ""),
            ("^abc|d", ""),
            ("abc", ""),
            ("(?i)^abc", ""),
            ("", ""),
        ] {
            assert_eq!(beginning(pattern), expected, "{pattern}");
        }
    }
}
