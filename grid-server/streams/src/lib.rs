//! What services keep between calls and share between replicas: unfinished uploads, log streams, build events,
//! assets, and who executed which result.
//!
//! Each has a trait and one implementation over [`grid_scheduler_sql::Database`], so on PostgreSQL and on SQLite.
//! `grid-rpc` puts the protocols over them. This crate refuses to know gRPC, and to hold more than one piece of
//! anything in memory.

pub mod assets;
pub mod error;
pub mod events;
pub mod logs;
pub mod provenance;
mod sql;
pub mod uploads;
mod wakeups;

pub use assets::{Asset, AssetKey, AssetKind, AssetStore, SqlAssetStore};
pub use error::StreamsError;
pub use events::{EventStore, QueryLimits, SqlEventStore, StoredEvent, StoredStream, stream_name};
pub use logs::{LogState, LogStreamStore, SqlLogStreamStore};
pub use provenance::{Executed, ExecutedQuery, Provenance, SqlProvenance};
pub use uploads::{SqlUploadStore, UploadStore};
