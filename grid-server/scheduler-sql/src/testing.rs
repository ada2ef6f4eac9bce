//! Databases for tests.

use tempfile::TempDir;

use crate::database::{Database, DatabaseOptions};
use crate::migrate::migrate;

/// An SQLite database of the test's own, migrated, and the folder that it lies in for as long as it is held.
///
/// # Panics
/// Where it can't be made.
#[allow(clippy::expect_used, reason = "for tests only")]
pub async fn sqlite() -> (Database, TempDir) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("grid.db");
    let database = Database::open_file(path, DatabaseOptions::default()).await.expect("an SQLite database");
    migrate(&database).await.expect("migrations");
    (database, folder)
}
