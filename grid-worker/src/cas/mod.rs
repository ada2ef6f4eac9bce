//! The worker's client of the CAS: presence, batches, streams, trees.
//!
//! [`plan`] decides what goes into which call (pure), `batch` makes the small calls, [`stream`] the
//! ByteStream ones, [`client`] knows the server's limits. Everything that arrives is checked against its digest by whoever keeps it. The module
//! refuses to touch files: it deals in bytes, and `cache` and `upload` know the disk.

mod batch;
pub mod client;
pub mod plan;
pub mod stream;

pub use client::Cas;
