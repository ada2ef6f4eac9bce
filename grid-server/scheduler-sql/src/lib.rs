//! The scheduler's [`QueueStore`](grid_scheduler::store::QueueStore) on PostgreSQL and SQLite, the database pools
//! that other components share, and the migrations of all of them.
//!
//! The SQL is here and nowhere else; decisions are in `grid-scheduler`.

pub mod database;
mod error;
mod list;
pub mod migrate;
mod postgres;
mod rows;
mod sqlite;
#[cfg(feature = "testing")]
pub mod testing;

pub use database::{Database, DatabaseError, DatabaseOptions};
pub use postgres::PostgresQueue;
pub use sqlite::SqliteQueue;
