//! The caches that hold results themselves; each file is one, named as its tag in the configuration without
//! `-action-cache`.

pub mod keyed;
pub mod lru;
pub mod redis;
pub mod remote;
pub mod s3;
pub mod sql;
