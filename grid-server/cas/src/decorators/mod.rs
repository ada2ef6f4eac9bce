//! Behaviour around a store. Each file is one decorator; its name is its tag in the configuration (ours have no tag:
//! `grid-server` always composes them) and its label in metrics.

pub mod verify;
