//! Checks of what prose claims: every path that ARCHITECTURE.md names exists.

use crate::workspace;

/// Text in backticks that looks like a path of this checkout.
fn paths(text: &str) -> Vec<&str> {
    let spans = text.split('`').skip(1).step_by(2);
    spans.filter(|span| span.contains('/') && !span.contains([' ', '<', '$', ':'])).collect()
}

#[test]
fn paths_are_told_from_other_code() {
    assert_eq!(paths("see `a/b.rs`, `cargo xtask test`, `word`"), ["a/b.rs"]);
}

#[test]
fn every_path_that_the_architecture_names_exists() {
    let root = workspace::root();
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let named = paths(&text);
    assert!(named.len() > 30, "the file names {} paths only", named.len());
    let gone: Vec<_> = named.into_iter().filter(|path| !root.join(path).exists()).collect();
    assert!(gone.is_empty(), "ARCHITECTURE.md names what does not exist: {gone:?}");
}
