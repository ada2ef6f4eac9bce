//! The commands: one file each.

pub(crate) mod check;
pub(crate) mod cleanup;
pub(crate) mod migrate;
pub(crate) mod serve;
