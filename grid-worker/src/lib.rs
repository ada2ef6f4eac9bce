//! The worker of a build grid, in two processes that trust each other only as far as they must.
//!
//! `grid-worker` holds the credentials: it takes leases ([`bot`]), fetches inputs into a cache of its own
//! ([`cas`], [`cache`]), stages them by hard links ([`stage`]), has the command run, and uploads the outputs
//! ([`upload`]). `grid-runner` ([`runner`]) holds nothing: it runs commands, in any image, as another user.
//! The one that writes executables never forks, and the one that forks never writes them.

pub mod admin;
pub mod bot;
pub mod cache;
pub mod cas;
pub mod config;
pub mod connect;
pub mod disk;
pub mod error;
pub mod execute;
pub mod faults;
mod file_time;
pub mod health;
pub mod logs;
mod made_mode;
pub mod memory;
pub mod metrics;
mod name;
pub mod notice;
pub mod probe;
mod removal;
pub mod retry;
pub mod runner;
pub mod runner_client;
pub mod runner_protocol;
pub mod stage;
mod tls;
pub mod upload;
pub mod watch;
pub mod work;
mod work_protocol;
