//! Behaviour around a store. Each file is one decorator; its name is its tag in the configuration (`verify`,
//! `existence_cache` and `metrics` have no tag of BuildGrid's) and its label in metrics.

pub mod existence_cache;
pub mod metrics;
pub mod redis_fmb_cache;
pub mod replicated;
pub mod router;
pub mod sharded;
pub mod size_differentiated;
pub mod sql_index;
pub mod verify;
pub mod with_cache;
pub mod zstd;
