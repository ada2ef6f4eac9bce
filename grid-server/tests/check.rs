//! `check` on what is shipped and on every example and broken document that the configuration's own tests know.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail them")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn check(arguments: &[&str], path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_grid-server"))
        .arg("check")
        .args(arguments)
        .arg(path)
        .env("HOME", "/home/ada")
        .output()
        .unwrap()
}

fn documents(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "yml")).collect();
    assert!(!found.is_empty());
    found
}

#[test]
fn every_example_passes_and_every_broken_document_fails_with_all_it_says() {
    for path in documents("config/tests/fixtures/examples") {
        let output = check(&[], &path);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
    }
    for path in documents("config/tests/fixtures/broken") {
        let output = check(&[], &path);
        assert!(!output.status.success(), "{} passes", path.display());
        let golden = std::fs::read_to_string(path.with_extension("txt")).unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said.lines().count(), golden.lines().count() + 1, "{said}");
    }
}

#[test]
fn what_is_shipped_passes_even_strictly() {
    for path in documents("etc") {
        let output = check(&["--strict"], &path);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_deprecated_spelling_fails_only_strictly() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tests/fixtures/examples/cache-alone.yml");
    assert!(check(&[], &path).status.success());
    let strict = check(&["--strict"], &path);
    assert!(!strict.status.success());
    assert!(String::from_utf8_lossy(&strict.stdout).contains("`insecure_mode` is written `insecure-mode`"));
}

#[test]
fn a_server_with_a_broken_configuration_starts_nothing_and_says_why() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tests/fixtures/broken/several-errors.yml");
    let output = Command::new(env!("CARGO_BIN_EXE_grid-server")).arg("serve").arg(&path).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("several-errors.yml:4:5") && said.contains("nothing was started"), "{said}");
}
