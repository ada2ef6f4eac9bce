//! The caches that hold results themselves; each file is one, named as its tag in the configuration without
//! `-action-cache`.

pub mod lru;
pub mod remote;
pub mod sql;
