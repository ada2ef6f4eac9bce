//! The stores that hold blobs themselves. Each file or folder is one, named as its tag in the configuration without
//! `-storage`; each has a struct of plain options and one constructor, from which `grid-server` composes the tree.

pub mod disk;
pub mod lru;
pub mod redis;
pub mod remote;
pub mod s3;
#[cfg(feature = "sql")]
pub mod sql;
