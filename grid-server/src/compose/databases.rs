//! Databases: pools by their connection, and the embedded one of the state directory.

use std::time::Duration;

use grid_cas::sql::SqlPool;
use grid_config::model::{self, Place, Shared, SqlConnection};
use grid_scheduler_sql::migrate::{self, SchemaError};
use grid_scheduler_sql::{Database, DatabaseOptions};

use super::{ComposeError, Composer, key};
use crate::readiness::{Answer, Dependency};

/// The file of the embedded database.
const STATE_FILE: &str = "grid.db";
/// How long a database may take to answer before that is said.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long to wait before a database that does not answer is asked again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What the database of a service is called among the dependencies: its connection's place, or the embedded one.
pub(super) fn name(sql: Option<&Shared<SqlConnection>>) -> String {
    sql.map_or_else(|| STATE_FILE.to_owned(), |connection| connection.place.to_string())
}

/// What stands at `place` and keeps what it has in the database of a connection, for errors: with where that is, without who
/// we are to it. Without a connection it is the embedded database.
pub(super) fn described(place: &Place, sql: Option<&Shared<SqlConnection>>) -> String {
    let address =
        sql.map_or_else(|| STATE_FILE.to_owned(), |sql| address(sql.value.connection_string.reveal()));
    format!("{place} at {address}")
}

/// A URL without user, password and options.
pub(super) fn address(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(at, path)| (at, Some(path)));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let path = path.map(|path| format!("/{path}")).unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

impl Composer<'_> {
    /// The database that a service names, or the embedded one; it is a dependency from then on.
    pub(super) async fn database_of(
        &mut self,
        sql: Option<&Shared<SqlConnection>>,
    ) -> Result<Database, ComposeError> {
        let database = match sql {
            Some(connection) => self.sql(connection).await?,
            None => self.state_database().await?,
        };
        let name = name(sql);
        if !self.dependencies.iter().any(|known| known.name == name) {
            let probed = database.clone();
            let probe = move || -> Answer {
                let database = probed.clone();
                Box::pin(async move { database.probe(PATIENCE).await.map_err(|error| error.to_string()) })
            };
            self.dependencies.push(Dependency { name, probe: Box::new(probe) });
        }
        Ok(database)
    }

    /// The database that a configuration means.
    pub(super) async fn database(&mut self, database: &model::Database) -> Result<Database, ComposeError> {
        match database {
            model::Database::Sql(connection) => self.sql(connection).await,
            model::Database::State => self.state_database().await,
            model::Database::Temporary => self.temporary_database().await,
        }
    }

    /// The pool of a connection. SQLite always migrates, for nobody else can; PostgreSQL where it is said.
    pub(super) async fn sql(&mut self, connection: &Shared<SqlConnection>) -> Result<Database, ComposeError> {
        let key = key(connection, None);
        if let Some(database) = self.databases.get(&key) {
            return Ok(database.clone());
        }
        let options = DatabaseOptions {
            max_connections: connection.pool_size.saturating_add(connection.max_overflow).max(1),
            acquire_timeout: connection.connection_timeout.max(connection.pool_timeout),
            lock_timeout: Some(connection.lock_timeout).filter(|timeout| !timeout.is_zero()),
            max_lifetime: connection.pool_recycle,
        };
        let opened = Database::open(connection.connection_string.reveal(), options).await;
        let described = || described(&connection.place, Some(connection));
        let database = opened.map_err(|source| ComposeError::Database { place: described(), source })?;
        let embedded = matches!(database, Database::Sqlite(_));
        current(&database, connection.automigrate || embedded || self.migrates, &connection.place)
            .await
            .map_err(|source| ComposeError::Schema { place: described(), source })?;
        self.databases.insert(key, database.clone());
        self.pools.push((connection.name.clone(), database.clone()));
        Ok(database)
    }

    /// The embedded database of the state directory.
    pub(super) async fn state_database(&mut self) -> Result<Database, ComposeError> {
        if let Some(database) = &self.state_database {
            return Ok(database.clone());
        }
        let path = self.state_directory()?.join(STATE_FILE);
        let database = embedded(path).await?;
        self.state_database = Some(database.clone());
        self.pools.push((STATE_FILE.to_owned(), database.clone()));
        Ok(database)
    }

    async fn temporary_database(&mut self) -> Result<Database, ComposeError> {
        let made = tempfile::Builder::new().prefix("buildgrid-").tempdir();
        let folder =
            made.map_err(|source| ComposeError::StateDirectory { path: std::env::temp_dir(), source })?;
        let database = embedded(folder.path().join(STATE_FILE)).await?;
        self.temporary.push(folder);
        Ok(database)
    }
}

/// The pool of a database, as stores and caches take it.
pub(super) fn pool(database: Database) -> SqlPool {
    match database {
        Database::Postgres(pool) => SqlPool::Postgres(pool),
        Database::Sqlite(pool) => SqlPool::Sqlite(pool),
    }
}

/// Brings a schema to this version, or sees that it is there. A database that does not answer is waited for, however long:
/// a server may be started before it, and is not ready until then.
async fn current(database: &Database, automigrate: bool, place: &Place) -> Result<(), SchemaError> {
    loop {
        let answers = database.probe(PATIENCE).await.map_err(SchemaError::Database);
        let done = match answers {
            Ok(()) if automigrate => migrate::migrate(database).await,
            Ok(()) => migrate::check(database).await,
            Err(error) => Err(error),
        };
        match done {
            Err(error) if error.may_pass() => {
                tracing::warn!(%place, %error, "the database does not answer; waiting for it");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            done => return done,
        }
    }
}

async fn embedded(path: std::path::PathBuf) -> Result<Database, ComposeError> {
    let place = path.display().to_string();
    let opened = Database::open_file(path, DatabaseOptions::default()).await;
    let database = opened.map_err(|source| ComposeError::Database { place: place.clone(), source })?;
    migrate::migrate(&database).await.map_err(|source| ComposeError::Schema { place, source })?;
    Ok(database)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_no_secret() {
        for (url, told) in [
            ("postgresql://grid:open@sesame@db:5432/grid?password=sesame", "postgresql://db:5432/grid"),
            ("postgresql://db", "postgresql://db"),
            ("postgresql:///grid?host=/run/postgresql&password=sesame", "postgresql:///grid"),
            ("sqlite:///./grid.db", "sqlite:///./grid.db"),
            ("https://user:sesame@s3.example/", "https://s3.example/"),
            ("unix:/run/grid.sock", "unix:/run/grid.sock"),
        ] {
            assert_eq!(address(url), told);
        }
    }
}
