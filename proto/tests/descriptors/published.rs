//! Compares this crate's descriptors with those that the registries' packages carry, both ways for
//! the package that is a protocol's authority, and for older packages in that all they have is here.
//!
//! Buildbarn's runner protocol is in no registry; its numbers are pinned by the committed listing.

use std::env;

use grid_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

use crate::listing::{Listing, list};
use crate::sources;

/// Protocols whose authority is a Go module.
const FROM_GO: [&str; 8] = [
    "build.bazel.remote.asset.v1",
    "build.bazel.remote.execution.v2",
    "build.bazel.remote.logstream.v1",
    "build.bazel.semver",
    "google.bytestream",
    "google.devtools.build.v1",
    "google.longrunning",
    "google.rpc",
];
/// Protocols whose authority is BuildGrid's newest wheel.
const FROM_BUILDGRID: [&str; 3] =
    ["build.buildbox", "build.buildgrid", "google.devtools.remoteworkers.v1test2"];

#[test]
fn descriptors_equal_the_published_ones() {
    if env::var_os("GRID_REGISTRY_TESTS").is_none_or(|value| value != "1") {
        println!("skipped: asks package registries; GRID_REGISTRY_TESTS=1 runs it");
        return;
    }
    let go = sources::go_modules();
    let buildgrid = sources::buildgrid_wheel("0.9.1", "3.13");
    let older = sources::buildgrid_wheel("0.4.4", "3.11");
    let keda = sources::keda("v2.21.0");

    let mut differences = Vec::new();
    exact(&mut differences, "Go modules", &go, &FROM_GO);
    exact(&mut differences, "buildgrid 0.9.1", &buildgrid, &FROM_BUILDGRID);
    exact(&mut differences, "KEDA", &keda, &["externalscaler"]);
    for (name, set) in [("buildgrid 0.9.1", &buildgrid), ("buildgrid 0.4.4", &older)] {
        contained(&mut differences, name, set, &FROM_GO);
        contained(&mut differences, name, set, &FROM_BUILDGRID);
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

/// Notes whatever is in one of the two and not, or differently, in the other.
fn exact(differences: &mut Vec<String>, source: &str, theirs: &FileDescriptorSet, packages: &[&str]) {
    contained(differences, source, theirs, packages);
    let theirs = of(theirs, packages);
    for (name, what) in of(&ours(), packages) {
        if !theirs.contains_key(&name) {
            differences.push(format!("{source}: lacks our {name} {what}"));
        }
    }
}

/// Notes whatever they have that we lack or have differently.
fn contained(differences: &mut Vec<String>, source: &str, theirs: &FileDescriptorSet, packages: &[&str]) {
    let ours = of(&ours(), packages);
    for package in packages {
        assert!(!of(theirs, &[package]).is_empty(), "{source} carries nothing of {package}");
    }
    let theirs = of(theirs, packages);
    for (name, what) in theirs {
        match ours.get(&name) {
            Some(our) if *our == what => {}
            Some(our) => differences.push(format!("{source}: {name} is `{what}`, ours is `{our}`")),
            None => differences.push(format!("{source}: {name} {what} is missing here")),
        }
    }
}

fn ours() -> FileDescriptorSet {
    FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap()
}

fn of(set: &FileDescriptorSet, packages: &[&str]) -> Listing {
    list(set, |file: &FileDescriptorProto| packages.contains(&file.package()))
}

#[test]
fn a_difference_of_any_kind_is_seen() {
    let mut theirs = ours();
    let file = theirs.file.iter_mut().find(|file| file.package() == "google.bytestream").unwrap();
    file.message_type[0].field[0].number = Some(99);
    file.message_type[0].field[1].json_name = Some("other".to_owned());
    file.message_type[1].field.clear();
    file.service[0].method[0].server_streaming = Some(false);
    file.message_type[2].name = Some("Renamed".to_owned());

    let mut differences = Vec::new();
    exact(&mut differences, "test", &theirs, &["google.bytestream"]);
    for expected in [
        "test: google.bytestream.ReadRequest.resource_name is `= 99 string json=resourceName`, ours is `= 1 string json=resourceName`",
        "test: google.bytestream.ReadRequest.read_offset is `= 2 int64 json=other`, ours is `= 2 int64 json=readOffset`",
        "test: lacks our google.bytestream.ReadResponse.data = 10 bytes",
        "test: google.bytestream.ByteStream.Read is `rpc google.bytestream.ReadRequest -> google.bytestream.ReadResponse`, \
         ours is `rpc google.bytestream.ReadRequest -> stream google.bytestream.ReadResponse`",
        "test: google.bytestream.Renamed message is missing here",
        "test: lacks our google.bytestream.WriteRequest message",
    ] {
        assert!(differences.iter().any(|found| found == expected), "{expected}\nnot in {differences:#?}");
    }
}
