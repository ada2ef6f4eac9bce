//! The three reconcilers. Each is observe → validate → build → apply → status, and each step is a type.
//!
//! - `buildgrid`, `casstorage`, `workerpool`: one folder a resource;
//! - `names`: every name, label and selector, in one place;
//! - `server_config`: the YAML that grid-server reads;
//! - `workload`: pods, containers and Services as all three make them;
//! - `fleet`: what each grid's scheduler is told and asked;
//! - `jobs`: what became of Jobs, and what they said;
//! - `rollouts`: whose turn it is to replace pods for nothing but newer templates;
//! - `bundle`: everything that is known, for support;
//! - `certificates`, `mutual_tls`: what the operator signs, and how parts know each other;
//! - `context`: what the reconcilers are given: client, time, randomness.
//!
//! `validate` is where a wish is refused; `build` is pure and can't fail for what passed it. The reconcilers
//! don't schedule themselves: the binary wires them to watches and decides when to try again.

pub mod buildgrid;
mod bundle;
pub mod casstorage;
mod certificates;
mod context;
mod error;
pub mod fleet;
mod foreign;
mod insight;
mod jobs;
mod mutual_tls;
mod names;
mod outcome;
mod references;
mod rollouts;
mod server_config;
mod telling;
mod trouble;
pub mod workerpool;
mod workload;

pub use bundle::bundle;
pub use context::{Context, Images, Mint, SystemMint};
pub use error::{Error, Result};
pub use mutual_tls::Identity;
pub use names::{MANAGED_BY, MANAGER, managed_selector, owner_of};
pub use outcome::Outcome;
pub use references::Referent;
pub use rollouts::{Pace, Rollouts};
