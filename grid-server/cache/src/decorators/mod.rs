//! Behaviour around an action cache; each file is one decorator, named as its tag or its option in the configuration.
//!
//! Outermost in each composed tree stands `completeness`, once for all; `allow_updates` and `cache_failed_actions`
//! stand where the options of these names are written.

pub mod allow_updates;
pub mod cache_failed_actions;
pub mod completeness;
pub mod mirrored;
pub mod sharded;
pub mod with_cache;
pub mod write_once;
