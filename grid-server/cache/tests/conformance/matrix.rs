//! The matrix as a document: which trees of action caches are held to which rules.

use std::fmt::Write;
use std::path::Path;

use grid_cache::conformance::RULES;

use super::trees;

const HEAD: &str = "# What every action cache is held to

One suite of rules runs on every backend and decorator, against real servers, with every change. A cross says that the tree
is held to the rule and keeps it; a dash, that the rule is about something that the tree does not promise: a cache either
replaces a result or keeps the first, and REAPI has no calls for inserting and deleting.

Beside the suite each decorator runs over a cache that fails, in turn, at its first, second, … twenty-fifth call, before the call
does anything or after it did: what was acknowledged is given, and nothing is given that nobody wrote. Exempt is
`!lru-action-cache`, which forgets what it has no room for.

Written by the suite: `GRID_BLESS=1 cargo test -p grid-cache --test conformance documentation` writes it anew.
";

#[tokio::test]
async fn the_documentation_of_the_matrix_is_current() {
    let mut text = format!("{HEAD}\n## Rules\n\n");
    for (number, rule) in RULES.iter().enumerate() {
        writeln!(text, "{}. {}", number + 1, rule.replace('_', " ")).unwrap();
    }
    text.push_str("\n## Matrix\n\n| action cache | on |");
    (1..=RULES.len()).for_each(|number| write!(text, " {number} |").unwrap());
    writeln!(text, "\n|{}", "---|".repeat(RULES.len() + 2)).unwrap();
    for (what, server, subject) in trees().await {
        write!(text, "| {what} | {server} |").unwrap();
        for rule in RULES {
            text.push_str(if subject.is_held_to(rule) { " × |" } else { " – |" });
        }
        text.push('\n');
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/action-cache-conformance.md");
    if std::env::var_os("GRID_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/action-cache-conformance.md is not current: GRID_BLESS=1 writes it anew");
}
