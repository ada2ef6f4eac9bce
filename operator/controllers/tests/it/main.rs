//! The reconcilers against a model of the API server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in tests a failure is a panic, in their helpers too"
)]

mod broken;
mod capability;
mod certificates;
mod claims;
mod config_from;
mod configuration;
mod convergence;
mod examples;
mod fields;
mod golden;
mod hibernation;
mod keda;
mod keys;
mod leaders;
mod model;
mod passes;
mod played_fleet;
mod restricted;
mod rules;
mod scale;
mod scaling;
mod secrets;
mod simulation;
mod specs;
mod statuses;
mod upgrade;
mod workers;
