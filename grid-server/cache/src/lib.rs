//! [`ActionCache`]: which result an action had. Backends keep the mapping; decorators add behaviour.
//!
//! Results name blobs that a [`grid_cas::BlobStore`] holds; the `completeness` decorator sees to it that a result
//! is given only while they are all there.

pub mod action_cache;
pub mod error;

pub use action_cache::{ActionCache, SharedCache};
pub use error::CacheError;
