//! The worker's cache of input files, from which actions are staged.
//!
//! [`key`] says what makes two files the same, [`index`] which are here and which may go (pure),
//! [`place`] how a cached file gets into an input root, [`FileCache`] brings the rest together. The cache's
//! directory is the worker's alone; what an action sees of it are read-only files that another user owns.

mod file_cache;
mod index;
mod key;
mod partial;
mod pins;
mod place;
mod recheck;

pub use file_cache::FileCache;
pub use key::FileKey;
pub use pins::Pins;
pub use place::Placement;
