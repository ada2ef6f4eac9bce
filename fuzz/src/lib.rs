//! The parsers of outside bytes, each behind a function of bytes that panics where the parser breaks a promise.
//!
//! `cargo xtask fuzz` runs each under libFuzzer, guided by the coverage of the workspace's own code; the corpora are run as
//! ordinary tests with every change (`tests/corpora.rs`), and what once failed is kept in them. Nothing here knows the
//! fuzzer but `main.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is a target's verdict")]

mod acl;
mod config;
mod digests;
mod filter;
mod jwt;
mod names;
mod statsd;
mod tree;
mod zstd;

use std::sync::OnceLock;

/// A parser under test.
pub struct Target {
    /// Its name, and that of the folder of its corpus.
    pub name: &'static str,
    /// Tries one input.
    pub run: fn(&[u8]),
    /// Folders of the workspace whose files are inputs too.
    pub seeds: &'static [&'static str],
}

/// All of them, in the order of their names.
pub const TARGETS: &[Target] = &[
    Target { name: "acl", run: acl::run, seeds: &[] },
    Target {
        name: "config",
        run: config::run,
        seeds: &["grid-server/config/tests/fixtures/examples", "grid-server/config/tests/fixtures/broken"],
    },
    Target { name: "digests", run: digests::run, seeds: &[] },
    Target { name: "filter", run: filter::run, seeds: &[] },
    Target { name: "jwt", run: jwt::run, seeds: &[] },
    Target { name: "names", run: names::run, seeds: &[] },
    Target { name: "statsd", run: statsd::run, seeds: &[] },
    Target { name: "tree", run: tree::run, seeds: &[] },
    Target { name: "zstd", run: zstd::run, seeds: &[] },
];

/// What the target does that `GRID_FUZZ_TARGET` names.
///
/// # Panics
/// Where it names none.
pub fn chosen() -> fn(&[u8]) {
    static CHOSEN: OnceLock<fn(&[u8])> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("GRID_FUZZ_TARGET").expect("GRID_FUZZ_TARGET names a target");
        let target = TARGETS.iter().find(|target| target.name == name);
        target.unwrap_or_else(|| panic!("there is no target {name:?}")).run
    })
}

/// Runs what a target does that is asynchronous.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(work))
}

/// The input as text, where it is text.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}
