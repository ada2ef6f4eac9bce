//! What every controller needs to bring objects into the state that it computed: server-side apply of what
//! differs, removal of what is no longer wanted, conditions, events, backoff, and the election of the one replica
//! that may write.
//!
//! This crate knows Kubernetes objects and nothing of grids. A write is made only where the wanted state and
//! the observed one differ, carries the resourceVersion that it was computed from, and is refused here
//! already once the leadership has run out.

mod applier;
mod backoff;
mod conditions;
mod contained;
mod desired;
mod error;
mod events;
mod finalizer;
mod leadership;
mod lease;
mod lease_api;
mod observed;
mod optional;
mod status;

pub use applier::{Applied, Applier, Change};
pub use backoff::Backoff;
pub use conditions::{Status, Wanted, merge};
pub use desired::{Desired, Kind, content_hash};
pub use error::{Error, Result};
pub use events::Events;
pub use finalizer::set_finalizer;
pub use leadership::Leadership;
pub use lease::{Election, LeaseStore, Term};
pub use lease_api::KubeLease;
pub use observed::Observed;
pub use optional::OptionalKinds;
pub use status::write_status;

/// Annotation that keeps the hash of what was last applied to an object.
pub const APPLIED_ANNOTATION: &str = "grid.build/applied";
