//! The `grid` binary against a server in this process: what it prints, what it exits with, and what the
//! server is left with, under answers that are right, broken off, refused for now, or wrong.

#![allow(clippy::unwrap_used, reason = "test code: a panic is its verdict")]

mod blobs;
mod fake;
mod operations;
mod run;
