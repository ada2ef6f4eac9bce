//! YAML to a tree of [`Node`]s that keeps what a configuration needs and serde's data model loses: positions, tags,
//! and which places share one node through an anchor.
//!
//! Scalars are read by YAML 1.1, as BuildGrid's loader does: a plain `yes` is a truth value and `010` is eight. What the
//! nodes mean is none of this module's business.

mod anchors;
mod build;
mod load;
mod node;
mod scalar;
mod strings;

pub(crate) use load::load;
pub use node::Mark;
pub(crate) use node::{Child, Content, Entry, Node};
pub(crate) use scalar::{Scalar, Value};
