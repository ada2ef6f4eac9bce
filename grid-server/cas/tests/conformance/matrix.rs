//! The matrix as a document: which trees of stores are held to which rules.

use std::fmt::Write;
use std::path::Path;

use grid_cas::conformance::RULES;

use super::trees;

const HEAD: &str = "# What every storage is held to

One suite of rules runs on every backend and decorator, against real servers, with every change. A cross says that the tree
is held to the rule and keeps it; a dash, that the rule is about something that the tree does not promise: backends alone check
lengths, and verify, which stands outermost in every server, checks hashes; REAPI has no call for deletion.

Beside the suite each decorator runs over a store that fails, in turn, at its first, second, … fortieth call: before the call
does anything, after it did, or half-way through the content. Nothing that was acknowledged is lost, nothing is served that does not
match its digest. Exempt from that are stores that say so: `!lru-storage` forgets what it has no room for, and the
deferred writes of `!with-cache-storage` are as durable as the cache that they wait in (over a disk they are made after a
crash). The process over each durable store is killed under load, 20 times with every change and 200 times in the full run,
and every acknowledged blob is read back.

Written by the suite: `GRID_BLESS=1 cargo test -p grid-cas --test conformance documentation` writes it anew.
";

#[tokio::test]
async fn the_documentation_of_the_matrix_is_current() {
    let mut text = format!("{HEAD}\n## Rules\n\n");
    for (number, rule) in RULES.iter().enumerate() {
        writeln!(text, "{}. {}", number + 1, rule.replace('_', " ")).unwrap();
    }
    text.push_str("\n## Matrix\n\n| storage | on |");
    (1..=RULES.len()).for_each(|number| write!(text, " {number} |").unwrap());
    writeln!(text, "\n|{}", "---|".repeat(RULES.len() + 2)).unwrap();
    for (what, server, subject) in trees().await {
        write!(text, "| {what} | {server} |").unwrap();
        for rule in RULES {
            text.push_str(if subject.is_held_to(rule) { " × |" } else { " – |" });
        }
        text.push('\n');
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/storage-conformance.md");
    if std::env::var_os("GRID_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/storage-conformance.md is not current: GRID_BLESS=1 writes it anew");
}
