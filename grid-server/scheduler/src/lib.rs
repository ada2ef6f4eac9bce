//! The scheduler: which job runs next, where, and what becomes of it.
//!
//! - [`job`], [`transition`], [`session`], [`properties`], [`assign`], [`operation`]: the state machine, pure.
//! - [`quota`]: shares of instances in cohorts of bots.
//! - [`history`]: leases that have ended, and what actions of a kind took.
//! - [`fleet`]: declared pools, drains, why a job waits, how many workers are wanted.
//! - [`store`]: what it asks of a database. [`engine`]: each thing that can happen, as one transaction.
//! - [`service`]: one replica: batches calls into transactions, wakes those who wait, sweeps what is overdue.
//!
//! It knows neither gRPC nor SQL, and holds results as bytes that it never reads.

pub mod assign;
pub mod engine;
pub mod error;
pub mod filter;
pub mod fleet;
pub mod history;
pub mod ids;
pub mod job;
pub mod metadata;
pub mod operation;
pub mod properties;
pub mod quota;
pub mod service;
pub mod session;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod store;
pub mod transition;

pub use error::SchedulerError;
pub use service::{Scheduler, SchedulerOptions, Watch};
