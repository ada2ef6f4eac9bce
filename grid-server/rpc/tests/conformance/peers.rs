//! The same rules against other servers: which of them hold there, for the document.
//!
//! What `cargo xtask conformance` finds is kept in `peers.txt`, a line for each rule: a mark for each server, then area,
//! source and rule.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::grid::Grid;
use crate::rule::{Outcome, Rule, judge};
use crate::servers::Server;

/// The servers of the document's columns, in their order.
pub(crate) const PEERS: [&str; 2] = ["BuildGrid", "bazel-remote"];

/// What holds where: marks by area, source and rule, with tabs between them.
pub(crate) type Marks = BTreeMap<String, Vec<char>>;

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/peers.txt")
}

/// What was found last.
pub(crate) fn found() -> Marks {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let line = |line: &str| {
        let (marks, rule) = line.split_once('\t')?;
        Some((rule.to_owned(), marks.chars().collect()))
    };
    text.lines().filter_map(line).collect()
}

/// Judges every rule on each server, and keeps what was found.
pub(crate) async fn look(rules: fn() -> Vec<Rule>) {
    let start = || [Server::buildgrid(), Server::bazel_remote()];
    let servers = tokio::task::spawn_blocking(start).await.unwrap();
    let mut marks = Marks::new();
    // What rules say when they don't hold is noise here.
    std::panic::set_hook(Box::new(|_| {}));
    for (peer, server) in PEERS.into_iter().zip(&servers) {
        let grid = Grid::elsewhere(&server.address).await;
        let mut counts = BTreeMap::new();
        for rule in rules() {
            let outcome = judge(&grid, &rule).await;
            *counts.entry(format!("{outcome:?}")).or_insert(0) += 1;
            let mark = match outcome {
                Outcome::Holds => '+',
                Outcome::Fails => '-',
                Outcome::NotServed => ' ',
            };
            marks.entry(rule.key()).or_default().push(mark);
        }
        eprintln!("{peer}: {counts:?}");
    }
    let mut text = String::new();
    for (rule, marks) in &marks {
        writeln!(text, "{}\t{rule}", marks.iter().collect::<String>()).unwrap();
    }
    std::fs::write(path(), text).unwrap();
}
