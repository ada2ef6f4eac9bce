//! [`Database`]: a connection pool by URL, for every component that keeps rows.
//!
//! SQLAlchemy's forms of URLs are read, so that a BuildGrid configuration works as it is.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, SqlitePool};
use thiserror::Error;

/// The schema that all tables lie in on PostgreSQL.
pub const SCHEMA: &str = "grid";

/// The age at which a connection is replaced where nothing is said.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// A pool of connections.
#[derive(Clone, Debug)]
pub enum Database {
    /// PostgreSQL: shared by any number of replicas.
    Postgres(PgPool),
    /// An SQLite file: one process.
    Sqlite(SqlitePool),
}

/// Limits of a pool.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseOptions {
    /// Connections at most.
    pub max_connections: u32,
    /// How long a call waits for a free connection, and a connection attempt may take.
    pub acquire_timeout: Duration,
    /// How long a statement of PostgreSQL waits for a lock; `None` for ever.
    pub lock_timeout: Option<Duration>,
    /// The age at which a connection is replaced; `None` for the driver's own, half an hour.
    pub max_lifetime: Option<Duration>,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
            lock_timeout: None,
            max_lifetime: None,
        }
    }
}

/// Why a URL names no database. The text never contains the URL's password.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// Another scheme.
    #[error("database URL scheme {0:?} is not known; expected postgresql:// or sqlite:///PATH")]
    Scheme(String),
    /// A database in memory would be lost with its connection.
    #[error("an SQLite database in memory can't hold a queue; give a file: sqlite:///PATH")]
    InMemory,
    /// The driver does not understand it.
    #[error("database URL can't be read: {0}")]
    Malformed(String),
    /// The database can't be opened.
    #[error("database can't be opened: {0}")]
    Open(#[from] sqlx::Error),
}

/// What a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Postgres(String),
    Sqlite(PathBuf),
}

impl Database {
    /// The pool for a URL: `postgresql://…`, `postgresql+psycopg2://…`, `sqlite:///relative`, `sqlite:////absolute`.
    /// PostgreSQL is connected to when it is first used, so that a server can start before its database.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn open(url: &str, options: DatabaseOptions) -> Result<Self, DatabaseError> {
        match parse(url)? {
            Target::Postgres(url) => {
                let connect = PgConnectOptions::from_str(&url)
                    .map_err(|_| DatabaseError::Malformed("expected postgresql://USER@HOST/DATABASE".into()))?
                    .application_name("grid-server")
                    .options([("search_path", SCHEMA)])
                    .statement_cache_capacity(200);
                let connect = match options.lock_timeout {
                    Some(timeout) => {
                        connect.options([("lock_timeout", format!("{}ms", timeout.as_millis()))])
                    }
                    None => connect,
                };
                let pool = PgPoolOptions::new()
                    .max_connections(options.max_connections)
                    .acquire_timeout(options.acquire_timeout)
                    .max_lifetime(options.max_lifetime.or(Some(LIFETIME)))
                    .connect_lazy_with(connect);
                Ok(Self::Postgres(pool))
            }
            Target::Sqlite(path) => Self::open_file(path, options).await,
        }
    }

    /// The pool for an SQLite file, which is made where it is not there.
    ///
    /// # Errors
    /// [`DatabaseError::Open`].
    pub async fn open_file(
        path: impl Into<PathBuf>,
        options: DatabaseOptions,
    ) -> Result<Self, DatabaseError> {
        let connect = SqliteConnectOptions::new()
            .filename(path.into())
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(30))
            .statement_cache_capacity(200);
        let pool = SqlitePoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            .max_lifetime(options.max_lifetime.or(Some(LIFETIME)))
            .connect_with(connect)
            .await?;
        Ok(Self::Sqlite(pool))
    }

    /// How many connections are at work.
    #[must_use]
    pub fn active(&self) -> u32 {
        let (open, idle) = match self {
            Self::Postgres(pool) => (pool.size(), pool.num_idle()),
            Self::Sqlite(pool) => (pool.size(), pool.num_idle()),
        };
        open.saturating_sub(u32::try_from(idle).unwrap_or(u32::MAX))
    }

    /// Whether the database takes a connection within this time.
    ///
    /// # Errors
    /// Why it doesn't.
    pub async fn probe(&self, within: Duration) -> Result<(), sqlx::Error> {
        let connect = async {
            match self {
                Self::Postgres(pool) => pool.acquire().await.map(drop),
                Self::Sqlite(pool) => pool.acquire().await.map(drop),
            }
        };
        tokio::time::timeout(within, connect).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Ends every connection; transactions under way are undone.
    pub async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite(pool) => pool.close().await,
        }
    }
}

fn parse(url: &str) -> Result<Target, DatabaseError> {
    let (scheme, rest) = url.split_once(':').ok_or_else(|| DatabaseError::Scheme(url.into()))?;
    match scheme.split('+').next().unwrap_or_default() {
        "postgres" | "postgresql" => Ok(Target::Postgres(format!("postgresql:{rest}"))),
        "sqlite" => {
            // Three slashes and a relative path, four and an absolute one; or the path alone.
            let path = rest.strip_prefix("///").unwrap_or_else(|| rest.trim_start_matches("//"));
            let path = path.split('?').next().unwrap_or_default();
            if path.is_empty() || path == ":memory:" {
                Err(DatabaseError::InMemory)
            } else {
                Ok(Target::Sqlite(path.into()))
            }
        }
        other => Err(DatabaseError::Scheme(other.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_sqlalchemy_are_read() {
        let postgres = |rest: &str| Target::Postgres(format!("postgresql:{rest}"));
        assert_eq!(parse("postgresql+psycopg2://u:p@h/d").unwrap(), postgres("//u:p@h/d"));
        assert_eq!(parse("postgres://h/d").unwrap(), postgres("//h/d"));
        assert_eq!(parse("sqlite:///a/b.db").unwrap(), Target::Sqlite("a/b.db".into()));
        assert_eq!(parse("sqlite:////a/b.db?x=1").unwrap(), Target::Sqlite("/a/b.db".into()));
        assert_eq!(parse("sqlite+pysqlite:///b.db").unwrap(), Target::Sqlite("b.db".into()));
    }

    #[test]
    fn what_can_hold_no_queue_is_refused() {
        for url in ["sqlite://", "sqlite:///:memory:", "sqlite::memory:"] {
            assert!(matches!(parse(url), Err(DatabaseError::InMemory)), "{url}");
        }
        assert!(matches!(parse("mysql://h/d"), Err(DatabaseError::Scheme(_))));
        assert!(matches!(parse("nonsense"), Err(DatabaseError::Scheme(_))));
    }
}
