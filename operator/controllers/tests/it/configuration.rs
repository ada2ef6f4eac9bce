//! Every server configuration in the golden folders is one that grid-server reads, without a word about it.

use std::io;
use std::path::Path;

use grid_config::{Surroundings, load};
use serde::Deserialize;
use serde_json::Value;

/// Every file is there, and holds something that fits any key.
struct AnyFile;

impl Surroundings for AnyFile {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        assert!(path.starts_with("/etc/grid/secrets"), "{} is mounted nowhere", path.display());
        Ok("postgresql://grid@database/grid".into())
    }
}

/// Fails with what grid-server would say about a configuration.
pub(crate) fn assert_readable(yaml: &str, path: &Path) {
    let loaded = load(yaml, &AnyFile);
    let said: Vec<String> = loaded.diagnostics.iter().map(|d| format!("{d:?}")).collect();
    assert!(said.is_empty(), "{}: {said:#?}\n{yaml}", path.display());
    assert!(loaded.config.is_some());
}

#[test]
fn grid_server_reads_what_the_operator_writes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut read = 0;
    for case in std::fs::read_dir(folder).unwrap() {
        let path = case.unwrap().path().join("objects.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            let object = Value::deserialize(document).unwrap();
            let Some(yaml) = object["data"]["server.yml"].as_str() else { continue };
            assert_readable(yaml, &path);
            read += 1;
        }
    }
    assert!(read > 8, "only {read} configurations were found");
}
