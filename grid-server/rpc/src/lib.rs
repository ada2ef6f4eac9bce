//! The gRPC services: each parses its requests, calls the core, and maps what comes back.
//!
//! A service is a struct over [`Instances`] of plain data (stores, caches, options), so that whoever composes a
//! server from its configuration only fills structs. Neighbours: `grid-cas`, `grid-cache`, `grid-scheduler` and
//! `grid-streams` do the work. This crate refuses to hold state of its own and to decide policy; [`error`] alone
//! knows how a failure looks on the wire.

pub mod action_cache;
pub mod asset;
pub mod auth;
pub mod bots;
pub mod build_events;
pub mod bytestream;
pub mod capabilities;
pub mod cas;
pub mod compression;
pub mod digests;
pub mod error;
pub mod execution;
pub mod fleet;
pub mod health;
pub mod http_cache;
pub mod instances;
pub mod introspection;
pub mod logstream;
pub mod metadata;
pub mod operations;
pub mod quota;
pub mod remote_capabilities;
pub mod rpc_error;
pub mod spans;
pub mod steps;
pub mod trailers;
pub mod transport;
pub mod web;

pub use error::to_status;
pub use instances::Instances;
pub use rpc_error::RpcError;
