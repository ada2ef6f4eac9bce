//! The committed listing of every name and number, which makes a change of the wire visible in
//! review. `GRID_BLESS=1` writes it anew.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use grid_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::listing::list;

const HEADER: &str = "\
# Generated from the .proto files of this folder; not to be edited. Every name and number on the wire.
# GRID_BLESS=1 cargo test -p grid-proto --test descriptors committed
";

fn render() -> String {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut text = HEADER.to_owned();
    for (name, what) in list(&set, |file| file.package() != "google.protobuf") {
        let _ = writeln!(text, "{name} {what}");
    }
    text
}

#[test]
fn committed_listing_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("descriptors.txt");
    let current = render();
    if env::var_os("GRID_BLESS").is_some_and(|value| value == "1") {
        fs::write(&path, current).unwrap();
        return;
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let changed: Vec<&str> =
        current.lines().filter(|line| !committed.lines().any(|old| old == *line)).collect();
    let gone: Vec<&str> = committed.lines().filter(|old| !current.lines().any(|line| line == *old)).collect();
    assert!(
        committed == current,
        "proto/descriptors.txt is not current: {} new or changed lines {changed:#?}, {} gone {gone:#?}; \
         if this change of the wire is meant, run the tests once with GRID_BLESS=1",
        changed.len(),
        gone.len(),
    );
}
