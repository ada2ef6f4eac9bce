//! The fleet: pools as their operator declares them, drains, and what both mean for jobs and bots. Pure.
//!
//! - [`pool`], [`image`]: what a pool would offer if it had workers. [`drain`]: who is to leave.
//! - [`View`]: all of it at one moment. [`explain`]: why a job waits. [`waits`]: why jobs waited. [`demand`]: how many
//!   workers are wanted.
//!
//! Nothing here decides who gets a job: that is [`crate::assign`], which takes a bot's [`Offer`] from here.

pub mod demand;
pub mod drain;
pub mod explain;
pub mod image;
pub mod pool;
#[cfg(test)]
mod testing;
mod view;
pub mod waits;

pub use demand::Quantiles;
pub use drain::{Drain, DrainProgress, DrainReason, DrainState, DrainTarget};
pub use explain::{Explanation, Mismatch, Verdict, WaitReason};
pub use pool::{Declaration, Offer, Pool};
pub use view::{BotState, FleetBot, FleetRows, View};
pub use waits::{Wait, WaitQuery};
