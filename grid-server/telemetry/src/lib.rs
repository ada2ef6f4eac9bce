//! What a server tells of itself: metrics for Prometheus, traces for OpenTelemetry, and logs.
//!
//! [`Metrics`] is the registry behind `/metrics`; [`watched`] is the tower layer by which [`rpc`] and [`http_cache`] count calls
//! and [`traces`] records those that are traced; [`stores`] and [`caches`] turn what those report into metrics, [`scheduler`] what schedulers
//! do; [`process`] reads the process's own figures; [`logs`] sets up the log. Nothing here decides anything, and nothing here
//! is on the path of a call but counters.

pub mod bus;
pub mod caches;
pub mod cleanup;
pub mod connections;
pub mod databases;
pub mod dependencies;
pub mod http_cache;
pub mod logs;
pub mod process;
mod published;
mod registry;
pub mod rpc;
pub mod scheduler;
pub mod stores;
pub mod traces;
pub mod watched;

pub use registry::Metrics;
