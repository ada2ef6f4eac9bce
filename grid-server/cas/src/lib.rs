//! [`BlobStore`]: where blobs are kept. Backends hold them; decorators add behaviour around a backend.
//!
//! The tree of decorators is the tree in the configuration; `grid-server` composes it. Callers hold an
//! `Arc<dyn BlobStore>` and can't tell what is behind it. This crate refuses to know gRPC services: it is a
//! client of some, in `backends::remote`.

pub mod backends;
pub mod breaker;
#[cfg(feature = "sql")]
pub mod buildgrid;
pub mod cleanup;
pub mod client;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod content;
pub mod decorators;
pub mod error;
mod fan_out;
pub mod form;
pub mod fsck;
mod groups;
pub mod index;
pub mod inventory;
pub mod janitor;
mod lend;
pub mod observer;
pub mod packing;
pub mod redis_client;
pub mod s3_client;
#[cfg(feature = "sql")]
pub mod sql;
pub mod store;
pub mod wait;

pub use error::StoreError;
pub use inventory::Inventory;
pub use store::{BlobStore, ByteRange, ByteStream, SharedStore};
