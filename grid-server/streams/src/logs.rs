//! [`LogStreamStore`]: ordered bytes of unknown length, read while they are written.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use grid_core::{Clock, Timestamp};
use grid_scheduler_sql::Database;
use sqlx::Row;

use crate::StreamsError;
use crate::sql::{on, signed, unsigned};
use crate::wakeups::{CHANNEL, Wakeups, listen};

/// How far a log stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogState {
    /// Bytes that readers can read.
    pub committed: u64,
    /// Whether no more will come.
    pub finished: bool,
    /// How many reads have begun.
    pub readers: u64,
}

/// Log streams by name. What is committed is never changed.
#[async_trait]
pub trait LogStreamStore: Debug + Send + Sync {
    /// Makes an empty stream.
    ///
    /// # Errors
    /// [`StreamsError::Exists`].
    async fn create(&self, name: &str, write_token: &str) -> Result<(), StreamsError>;

    /// How far the stream is; for a writer, with its token.
    ///
    /// # Errors
    /// [`StreamsError::NotFound`], [`StreamsError::WrongToken`].
    async fn state(&self, name: &str, write_token: Option<&str>) -> Result<LogState, StreamsError>;

    /// Adds bytes at `offset`, and ends the stream where `finish` is set. Gives the bytes committed then.
    ///
    /// # Errors
    /// [`StreamsError::Offset`], [`StreamsError::Finished`], [`StreamsError::Full`] and those of
    /// [`LogStreamStore::state`].
    async fn append(
        &self,
        name: &str,
        write_token: &str,
        offset: u64,
        content: Bytes,
        finish: bool,
    ) -> Result<u64, StreamsError>;

    /// Committed bytes from `offset` on, as many as lie together; empty where there are none yet.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn read(&self, name: &str, offset: u64) -> Result<Bytes, StreamsError>;

    /// Notes that a reader has come.
    ///
    /// # Errors
    /// [`StreamsError::NotFound`].
    async fn add_reader(&self, name: &str) -> Result<(), StreamsError>;

    /// Waits until the stream is no longer as `seen` says, at most for `patience`; gives its state.
    ///
    /// # Errors
    /// [`StreamsError::NotFound`], also where it expires meanwhile.
    async fn changed(&self, name: &str, seen: LogState, patience: Duration)
    -> Result<LogState, StreamsError>;

    /// Removes streams that were not used since `before`; tells how many.
    ///
    /// # Errors
    /// [`StreamsError::Database`].
    async fn expire(&self, before: Timestamp) -> Result<u64, StreamsError>;
}

/// How long a waiter trusts in being woken before it looks for itself.
const SAFETY_POLL: Duration = Duration::from_secs(5);

/// Log streams in a database.
#[derive(Clone, Debug)]
pub struct SqlLogStreamStore {
    database: Database,
    clock: Arc<dyn Clock>,
    max_bytes: u64,
    wakeups: Arc<Wakeups>,
}

impl SqlLogStreamStore {
    /// Log streams in `database`, whose schema is up to date, each of at most `max_bytes`.
    ///
    /// On PostgreSQL this starts a task, which ends with the store; so it must be called within a runtime.
    #[must_use]
    pub fn new(database: Database, clock: Arc<dyn Clock>, max_bytes: u64) -> Self {
        let wakeups = Arc::new(Wakeups::default());
        if let Database::Postgres(pool) = &database {
            tokio::spawn(listen(pool.clone(), Arc::downgrade(&wakeups)));
        }
        Self { database, clock, max_bytes, wakeups }
    }

    async fn announce(&self, name: &str) -> Result<(), StreamsError> {
        self.wakeups.wake(name);
        if let Database::Postgres(pool) = &self.database {
            sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(name).execute(pool).await?;
        }
        Ok(())
    }

    /// Why an append changed nothing.
    async fn refusal(&self, name: &str, token: &str, given: u64) -> StreamsError {
        match self.state(name, Some(token)).await {
            Ok(state) if state.finished => StreamsError::Finished(name.into()),
            Ok(state) if state.committed == given => {
                StreamsError::Full { name: name.into(), limit: self.max_bytes }
            }
            Ok(state) => StreamsError::Offset { given, committed: state.committed },
            Err(error) => error,
        }
    }
}

#[async_trait]
impl LogStreamStore for SqlLogStreamStore {
    async fn create(&self, name: &str, write_token: &str) -> Result<(), StreamsError> {
        const SQL: &str = "INSERT INTO log_streams (name, write_token, committed, finished, readers, used_at) \
            VALUES ($1, $2, 0, false, 0, $3) ON CONFLICT DO NOTHING";
        let now = self.clock.now().0;
        let made = on!(&self.database, pool => sqlx::query(SQL)
            .bind(name).bind(write_token).bind(now).execute(pool).await?.rows_affected());
        if made == 0 { Err(StreamsError::Exists(name.into())) } else { Ok(()) }
    }

    async fn state(&self, name: &str, write_token: Option<&str>) -> Result<LogState, StreamsError> {
        const SQL: &str = "SELECT committed, finished, readers, write_token FROM log_streams WHERE name = $1";
        let row: Option<(i64, bool, i64, String)> =
            on!(&self.database, pool => sqlx::query_as(SQL).bind(name).fetch_optional(pool).await?);
        let (committed, finished, readers, token) = row.ok_or_else(|| StreamsError::NotFound(name.into()))?;
        if write_token.is_some_and(|given| given != token) {
            return Err(StreamsError::WrongToken(name.into()));
        }
        Ok(LogState { committed: unsigned(committed), finished, readers: unsigned(readers) })
    }

    async fn append(
        &self,
        name: &str,
        write_token: &str,
        offset: u64,
        content: Bytes,
        finish: bool,
    ) -> Result<u64, StreamsError> {
        const GROW: &str = "UPDATE log_streams SET committed = committed + $3, finished = $4, used_at = $5 \
            WHERE name = $1 AND write_token = $2 AND committed = $6 AND NOT finished AND committed + $3 <= $7";
        const ADD: &str = "INSERT INTO log_pieces (name, start_at, content) VALUES ($1, $2, $3)";
        let (length, now) = (signed(content.len() as u64), self.clock.now().0);
        let grown = on!(&self.database, pool => {
            let mut tx = pool.begin().await?;
            let grown = sqlx::query(GROW)
                .bind(name).bind(write_token).bind(length).bind(finish).bind(now).bind(signed(offset))
                .bind(signed(self.max_bytes)).execute(&mut *tx).await?.rows_affected();
            if grown > 0 && length > 0 {
                sqlx::query(ADD).bind(name).bind(signed(offset)).bind(&content[..]).execute(&mut *tx).await?;
            }
            tx.commit().await?;
            grown
        });
        if grown == 0 {
            return Err(self.refusal(name, write_token, offset).await);
        }
        self.announce(name).await?;
        Ok(offset + content.len() as u64)
    }

    async fn read(&self, name: &str, offset: u64) -> Result<Bytes, StreamsError> {
        const SQL: &str = "SELECT start_at, content FROM log_pieces WHERE name = $1 AND start_at <= $2 \
            ORDER BY start_at DESC LIMIT 1";
        let piece: Option<(i64, Vec<u8>)> = on!(&self.database, pool => sqlx::query(SQL)
            .bind(name).bind(signed(offset)).fetch_optional(pool).await?
            .map(|row| (row.get(0), row.get(1))));
        let Some((start, content)) = piece else { return Ok(Bytes::new()) };
        let mut content = Bytes::from(content);
        let before = usize::try_from(offset - unsigned(start)).unwrap_or(usize::MAX);
        Ok(content.split_off(before.min(content.len())))
    }

    async fn add_reader(&self, name: &str) -> Result<(), StreamsError> {
        const SQL: &str = "UPDATE log_streams SET readers = readers + 1, used_at = $2 WHERE name = $1";
        let now = self.clock.now().0;
        let found = on!(&self.database, pool => sqlx::query(SQL)
            .bind(name).bind(now).execute(pool).await?.rows_affected());
        if found == 0 {
            return Err(StreamsError::NotFound(name.into()));
        }
        self.announce(name).await
    }

    async fn changed(
        &self,
        name: &str,
        seen: LogState,
        patience: Duration,
    ) -> Result<LogState, StreamsError> {
        let notify = self.wakeups.watch(name);
        let end = tokio::time::Instant::now() + patience;
        loop {
            let mut woken = std::pin::pin!(notify.notified());
            // Whoever announces from here on is heard, so that nothing is missed between looking and waiting.
            woken.as_mut().enable();
            let state = self.state(name, None).await?;
            if state != seen || tokio::time::Instant::now() >= end {
                return Ok(state);
            }
            let wait = SAFETY_POLL.min(end.saturating_duration_since(tokio::time::Instant::now()));
            let _ = tokio::time::timeout(wait, woken).await;
        }
    }

    async fn expire(&self, before: Timestamp) -> Result<u64, StreamsError> {
        const SQL: &str = "DELETE FROM log_streams WHERE used_at < $1";
        Ok(on!(&self.database, pool => sqlx::query(SQL).bind(before.0).execute(pool).await?.rows_affected()))
    }
}
