//! The reconcilers against a model of the API server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a failure is a panic, in their helpers too")]

mod convergence;
mod golden;
mod model;
