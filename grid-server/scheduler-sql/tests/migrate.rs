//! A version works on a database that a newer one has migrated, as in the middle of a rolling upgrade.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use grid_scheduler_sql::migrate::{self, SchemaError};
use grid_scheduler_sql::{Database, testing};

/// What a newer version leaves behind: a column, a table, and the note of its migration.
const EXPAND: [&str; 3] = [
    "ALTER TABLE jobs ADD COLUMN from_the_future INTEGER NOT NULL DEFAULT 7",
    "CREATE TABLE of_the_future (id INTEGER PRIMARY KEY)",
    "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
     VALUES (9998, 'the future', true, 'x', 1)",
];
const CONTRACT: [&str; 1] =
    ["INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
     VALUES (9999, 'drop the past needs 9998', true, 'x', 1)"];

async fn execute(database: &Database, statements: &[&'static str]) {
    for statement in statements {
        match database {
            Database::Postgres(pool) => drop(sqlx::query(*statement).execute(pool).await.unwrap()),
            Database::Sqlite(pool) => drop(sqlx::query(*statement).execute(pool).await.unwrap()),
        }
    }
}

async fn an_old_version_starts_on_a_newer_schema(database: Database) {
    execute(&database, &EXPAND).await;
    migrate::check(&database).await.unwrap();
    migrate::migrate(&database).await.unwrap();

    execute(&database, &CONTRACT).await;
    for refused in [migrate::check(&database).await, migrate::migrate(&database).await] {
        match refused {
            Err(SchemaError::Newer(migration)) => assert_eq!(migration, "9999 drop the past needs 9998"),
            other => panic!("{other:?}"),
        }
    }
}

async fn a_pending_migration_is_asked_for_on_a_newer_schema(database: Database) {
    execute(&database, &EXPAND).await;
    execute(&database, &["DELETE FROM _sqlx_migrations WHERE version = 2"]).await;
    match migrate::check(&database).await {
        Err(SchemaError::Behind(pending)) => assert_eq!(pending, ["0002 fleet"]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn sqlite() {
    let (database, _folder) = testing::sqlite().await;
    an_old_version_starts_on_a_newer_schema(database).await;
    let (database, _folder) = testing::sqlite().await;
    a_pending_migration_is_asked_for_on_a_newer_schema(database).await;
}

#[tokio::test]
async fn postgres() {
    an_old_version_starts_on_a_newer_schema(testing::postgres().await).await;
    a_pending_migration_is_asked_for_on_a_newer_schema(testing::postgres().await).await;
}
