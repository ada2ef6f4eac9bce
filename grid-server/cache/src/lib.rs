//! [`ActionCache`]: which result an action had. Backends keep the mapping; decorators add behaviour.
//!
//! Results name blobs that a [`grid_cas::BlobStore`] holds; the `completeness` decorator sees to it that a result
//! is given only while they are all there.

pub mod action_cache;
pub mod backends;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod contents;
pub mod decorators;
pub mod error;
pub mod observer;

pub use action_cache::{ActionCache, SharedCache};
pub use error::CacheError;
