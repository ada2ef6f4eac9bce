//! What `docs/capability-levels.md` claims: every test and row that it names is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every test of the operator's crates, as `module::test`, by the file or folder that it is in.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in ["api", "apply", "controllers", "src"] {
        collect(&root().join("operator").join(folder), &mut found);
    }
    found
}

fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let stem = path.file_stem().unwrap().to_str().unwrap();
            let folder = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
            let module = if stem == "mod" { folder } else { stem };
            for name in tests_of(&std::fs::read_to_string(&path).unwrap()) {
                found.insert(format!("{module}::{name}"));
            }
        }
    }
}

/// The functions that are marked as tests, with or without a runtime.
fn tests_of(text: &str) -> Vec<String> {
    let after = text.split("#[test]").skip(1).chain(text.split("#[tokio::test").skip(1));
    let names = after.map(|rest| rest.split_once("fn ").unwrap().1.split('(').next().unwrap());
    names.map(str::to_owned).collect()
}

/// The rows of the table: level, line, what shows it.
fn lines(text: &str) -> Vec<[&str; 3]> {
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| level"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        cells.try_into().unwrap_or_else(|cells| panic!("three cells: {cells:?}"))
    })
    .collect()
}

#[test]
fn every_line_names_tests_and_rows_that_are_there() {
    let text = std::fs::read_to_string(root().join("docs/capability-levels.md")).unwrap();
    let rows = std::fs::read_to_string(root().join("xtask/src/rows.rs")).unwrap();
    let tests = tests();
    let is_there = |name: &str| match name.split_once("::") {
        Some((module, "*")) => tests.iter().any(|test| test.starts_with(&format!("{module}::"))),
        Some(_) => tests.contains(name),
        None => rows.contains(&format!("(\n        \"{name}\"")) || rows.contains(&format!("(\"{name}\"")),
    };
    let lines = lines(&text);
    assert!(lines.len() >= 25, "{} lines", lines.len());
    let mut missing = vec![];
    for [level, line, shown] in lines {
        // What is in backquotes is a test or a row.
        let names: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            missing.push(format!("level {level}, {line:?}: no test"));
        }
        let absent = names.into_iter().filter(|name| !is_there(name));
        missing.extend(absent.map(|name| format!("level {level}, {line:?}: there is no {name}")));
    }
    assert_eq!(missing, Vec::<String>::new());
}
