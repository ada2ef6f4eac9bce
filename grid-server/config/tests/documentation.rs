//! `docs/configuration.md` is what the table says.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail them")]

use std::fs;
use std::path::Path;

#[test]
fn the_documentation_is_generated_from_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let generated = grid_config::table::markdown();
    if std::env::var_os("GRID_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &generated).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == generated, "docs/configuration.md is not current: GRID_BLESS=1 writes it anew");
}
