//! What is said of each example and of each broken configuration, word for word.
//!
//! `GRID_BLESS=1` writes the golden files anew.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail them")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use grid_config::{Loaded, Surroundings, load};

/// A machine with a home directory and nothing else.
struct Home;

impl Surroundings for Home {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "HOME").then(|| "/home/ada".to_owned())
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Err(io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }
}

fn fixtures(folder: &str) -> BTreeMap<PathBuf, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found: BTreeMap<_, _> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    assert!(!found.is_empty());
    found
}

fn said(path: &Path, loaded: &Loaded) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    loaded.diagnostics.iter().fold(String::new(), |mut out, diagnostic| {
        writeln!(out, "{}", diagnostic.render(name)).unwrap();
        out
    })
}

fn compare(path: &Path, said: &str) {
    let golden = path.with_extension("txt");
    if std::env::var_os("GRID_BLESS").is_some() {
        fs::write(&golden, said).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(said, expected, "{}: GRID_BLESS=1 accepts the new text", golden.display());
}

#[test]
fn every_example_loads_with_the_warnings_that_the_table_says() {
    for (path, text) in fixtures("examples") {
        let loaded = load(&text, &Home);
        assert!(loaded.config.is_some(), "{}", said(&path, &loaded));
        compare(&path, &said(&path, &loaded));
    }
}

#[test]
fn every_broken_configuration_is_refused_with_all_its_errors() {
    let broken = fixtures("broken");
    assert!(broken.len() >= 15);
    for (path, text) in broken {
        let loaded = load(&text, &Home);
        assert!(loaded.config.is_none(), "{} loads", path.display());
        assert!(loaded.errors(false) > 0, "{}", path.display());
        assert!(!said(&path, &loaded).contains("hunter2"), "{} tells a secret", path.display());
        compare(&path, &said(&path, &loaded));
    }
}
