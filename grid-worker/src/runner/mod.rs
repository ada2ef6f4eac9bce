//! The runner: spawns commands that grid-worker has staged, and holds no credentials.
//!
//! It serves Buildbarn's `buildbarn.runner.Runner` on a UNIX socket. Each command gets a supervisor of its own
//! ([`supervise`]): a second, single-threaded process of the same binary that is the subreaper of everything
//! the command starts, so that whatever happens to the command, the call or the server, the whole tree dies.
//!
//! ```text
//!  worker ──socket──▶ service ─▶ launch ──stdin: task──▶ supervise ──▶ the command and all its processes
//!                        │          ◀──stdout: report──
//!                        └─▶ settle (outputs become readable and removable for the worker)
//! ```
//!
//! What keeps commands apart from each other and from the container is an [`isolation`]; the supervisor enters it
//! ([`enclose`]) before it starts its command.
//!
//! The runner refuses to fetch, cache or write files for a command: an executable that it wrote could be open
//! in a child that it forks at that moment, and then could not be executed (ETXTBSY).

mod disk_use;
pub mod enclose;
pub mod install;
pub mod isolation;
mod launch;
mod log_file;
mod lookup;
mod loopback;
mod orphans;
mod ownership;
mod paths;
mod peer;
mod process_tree;
mod reside;
mod residents;
pub mod serve;
mod service;
mod settle;
pub mod supervise;
mod supervisors;
mod task;
