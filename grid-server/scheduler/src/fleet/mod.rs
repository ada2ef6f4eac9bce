//! The fleet: the pools that somebody declared, what is being drained, and why a job waits. Pure.
//!
//! A declared pool says what its workers would offer if there were any, so that a job can wait for a pool that is
//! at zero, and a job that no pool will ever take need not wait at all.

mod drain;
mod explain;
mod pool;

pub use drain::{Drain, DrainReason, Target};
pub use explain::{Explanation, Mismatch, Situation, WaitReason, explain, mismatch};
pub use pool::{DeclaredPool, Pool};

/// Kinds of records that the store keeps for the fleet.
pub mod kind {
    /// A [`super::DeclaredPool`], by its name.
    pub const POOL: &str = "pool";
    /// The revision in force, by owner.
    pub const OWNER: &str = "owner";
    /// A [`super::Drain`], by its target.
    pub const DRAIN: &str = "drain";
}
