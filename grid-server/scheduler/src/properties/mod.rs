//! Which bots can run which jobs.
//!
//! A job's platform becomes a [`Requirement`] by way of the configured [`PropertySet`]; a bot's properties are
//! a [`Properties`]. One rule, [`Requirement::matches`], holds for every kind of property set. Requirements are
//! interned by their hash ([`RequirementId`]), so that a queue of any length has only as many of them as there
//! are different platforms, and a bot is compared with each of those once.

mod requirement;
mod set;

pub use requirement::{Match, Properties, Requirement, RequirementId};
pub use set::{DynamicSet, InstancedSet, PropertySet, StaticLabel, StaticSet};
