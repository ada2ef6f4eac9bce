//! Tests of the descriptors that build.rs compiles: that the committed listing is current, that
//! reflection can serve them, and that they equal the published ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "clippy.toml permits these in test functions; helpers of a test are the same to us"
)]

mod committed;
mod listing;
mod published;
mod reflection;
mod sources;
