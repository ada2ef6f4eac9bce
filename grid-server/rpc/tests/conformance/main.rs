//! The protocol's rules, each against a real server on loopback, over each kind of store.
//!
//! A rule has a name, its source in the protocol, and a check; [`rules`] lists them by service. Every rule makes
//! its own blobs, so that all of them share one server. `docs/conformance.md` is written from the rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::too_many_lines,
    clippy::large_futures,
    reason = "a test, most of it tables"
)]

mod action_cache;
mod asset;
mod batch;
mod build_events;
mod bytestream_packed;
mod bytestream_read;
mod bytestream_write;
mod capabilities;
mod chunking;
mod execution;
mod find_missing;
mod grid;
mod introspection;
mod logstream;
mod operations;
mod origin;
mod peers;
mod queue;
mod quota;
mod resume;
mod rule;
mod servers;
mod tree;
mod workers;

use grid::{Grid, StoreKind};
use rule::{Rule, document, run};

fn rules() -> Vec<Rule> {
    [
        ("Capabilities", capabilities::rules()),
        ("FindMissingBlobs", find_missing::rules()),
        ("Batches", batch::rules()),
        ("ByteStream reads", bytestream_read::rules()),
        ("ByteStream writes", bytestream_write::rules()),
        ("Resumed writes", resume::rules()),
        ("Trees", tree::rules()),
        ("Chunks", chunking::rules()),
        ("Action cache", action_cache::rules()),
        ("Log streams", logstream::rules()),
        ("Build events", build_events::rules()),
        ("Execution", execution::rules()),
        ("Operations", operations::rules()),
        ("Remote workers", workers::rules()),
        ("Introspection", introspection::rules()),
        ("Quotas", quota::rules()),
        ("Remote assets", asset::rules()),
    ]
    .into_iter()
    .flat_map(|(area, rules)| rules.into_iter().map(move |rule| rule.within(area)))
    .collect()
}

#[test]
fn names_are_unique_and_negative_rules_are_at_least_half() {
    let rules = rules();
    let mut names: Vec<_> = rules.iter().map(|r| (r.area, r.source, r.name)).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), rules.len());
    let negative = rules.iter().filter(|r| r.negative).count();
    assert!(negative * 2 >= rules.len(), "{negative} of {} rules are negative", rules.len());
}

#[test]
fn the_documentation_is_current() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.md");
    let generated = document(&rules(), &peers::found());
    if std::env::var_os("GRID_BLESS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == generated, "docs/conformance.md is not current: GRID_BLESS=1 writes it anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_holds_over_lru() {
    run(&Grid::start(StoreKind::Lru).await, rules()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_holds_over_disk() {
    run(&Grid::start(StoreKind::Disk).await, rules()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it asks other servers, which `cargo xtask conformance` installs"]
async fn rules_on_other_servers() {
    peers::look(rules).await;
}
