//! What docs/backup.md says: a database and a tier of different moments are restored, and a tier is moved while it is used.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use grid_proto::reapi::action_cache_client::ActionCacheClient;
use grid_proto::reapi::{ActionResult, GetActionResultRequest, OutputFile, UpdateActionResultRequest};
use support::{Calls, Server, digest, has, store_blob};
use tokio::process::Command;
use tonic::Code;

/// A grid's storage, index and results, all in one place.
fn grid(place: &Path) -> String {
    let place = place.display();
    format!(
        "
connections: [!sql-connection &db {{connection-string: 'sqlite:///{place}/grid.db', automigrate: yes}}]
storages:
  - !disk-storage &disk {{path: {place}/tier}}
  - !sql-index &index {{storage: *disk, sql: *db, max-inline-blob-size: 0}}
caches: [!sql-action-cache &results {{storage: *index, sql: *db}}]
instances:
  - name: ''
    services: [!cas {{storage: *index}}, !bytestream {{storage: *index}}, !action-cache {{cache: *results}}]
"
    )
}

fn content(number: u8) -> Vec<u8> {
    vec![number; 2_000]
}

/// Records that an action made the blob of that number.
async fn record(channel: Calls, number: u8) {
    let output = OutputFile {
        path: "out".to_owned(),
        digest: Some(digest(&content(number))),
        ..OutputFile::default()
    };
    let result = ActionResult { output_files: vec![output], ..ActionResult::default() };
    let request = UpdateActionResultRequest {
        action_digest: Some(digest(&[number])),
        action_result: Some(result),
        ..UpdateActionResultRequest::default()
    };
    ActionCacheClient::new(channel).update_action_result(request).await.unwrap();
}

/// Whether the result of that action is served.
async fn is_served(channel: Calls, number: u8) -> bool {
    let request = GetActionResultRequest {
        action_digest: Some(digest(&[number])),
        ..GetActionResultRequest::default()
    };
    match ActionCacheClient::new(channel).get_action_result(request).await {
        Ok(_) => true,
        Err(status) => {
            assert_eq!(status.code(), Code::NotFound, "{status}");
            false
        }
    }
}

async fn make(server: &Server, numbers: std::ops::Range<u8>) {
    for number in numbers {
        store_blob(server.channel().await, content(number)).await;
        record(server.channel().await, number).await;
    }
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}

async fn fsck(place: &Path, arguments: &[&str]) -> Output {
    let path = place.join("fsck.yml");
    let server = "server: [!channel {address: '127.0.0.1:0', insecure-mode: yes}]";
    std::fs::write(&path, format!("{server}\n{}", grid(place))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_grid-server"));
    command.arg("fsck").arg(&path).args(arguments).stderr(Stdio::inherit()).env_remove("RUST_LOG");
    command.output().await.unwrap()
}

#[tokio::test]
async fn after_a_restore_a_result_is_served_only_with_all_that_it_names() {
    let (live, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(&grid(live.path())).await;
    make(&server, 0..4).await;
    server.stop().await;
    copy(&live.path().join("tier"), kept.path());
    let server = Server::start(&grid(live.path())).await;
    make(&server, 4..6).await;
    server.stop().await;
    // The database is younger than the tier: the worse order of the two.
    copy(&live.path().join("grid.db"), kept.path());

    let found = fsck(kept.path(), &[]).await;
    assert!(!found.status.success(), "two blobs are named and gone");
    let repaired = fsck(kept.path(), &["--repair"]).await;
    let said = String::from_utf8(repaired.stdout.clone()).unwrap();
    assert!(repaired.status.success() && said.contains("(4000 bytes in 2 blobs forgotten)"), "{said}");

    let server = Server::start(&grid(kept.path())).await;
    for number in 0..6 {
        assert_eq!(is_served(server.channel().await, number).await, number < 4, "{number}");
        assert_eq!(has(server.channel().await, &content(number)).await, number < 4, "{number}");
    }
    make(&server, 4..6).await;
    assert!(is_served(server.channel().await, 5).await, "it is built once more, and then there");
    server.stop().await;
}

/// A tier on a disk.
async fn tier(place: &Path) -> Server {
    let storage = format!("!disk-storage &disk {{path: {}}}", place.display());
    let services = "services: [!cas {storage: *disk}, !bytestream {storage: *disk}]";
    Server::start(&format!("storages: [{storage}]\ninstances: [{{name: '', {services}}}]")).await
}

/// A front of the old tier, of the new one, or of both.
async fn front(storage: &str, old: &Server, new: &Server) -> Server {
    let (old, new) = (old.address(), new.address());
    let config = format!(
        "
storages:
  - !remote-storage &old {{url: '{old}', instance-name: ''}}
  - !remote-storage &new {{url: '{new}', instance-name: ''}}
  - !replicated-storage &both {{storages: [*new, *old], replication-queue-size: 1000}}
instances: [{{name: '', services: [!cas {{storage: *{storage}}}, !bytestream {{storage: *{storage}}}]}}]
"
    );
    Server::start(&config).await
}

#[tokio::test]
async fn a_tier_is_moved_while_it_is_used() {
    let place = tempfile::tempdir().unwrap();
    let (old, new) = (tier(&place.path().join("old")).await, tier(&place.path().join("new")).await);
    let before = front("old", &old, &new).await;
    for number in 0..8 {
        store_blob(before.channel().await, content(number)).await;
    }
    // While pods are replaced both kinds of fronts serve: neither misses what clients stored through the other.
    let moving = front("both", &old, &new).await;
    store_blob(moving.channel().await, content(8)).await;
    store_blob(before.channel().await, content(9)).await;
    for number in 0..10 {
        assert!(has(before.channel().await, &content(number)).await, "{number}");
    }
    before.stop().await;
    // What is asked for is copied.
    let copied = async {
        for number in 0..10 {
            while !has(new.channel().await, &content(number)).await {
                assert!(has(moving.channel().await, &content(number)).await, "{number}");
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), copied).await.unwrap();
    let after = front("new", &old, &new).await;
    store_blob(moving.channel().await, content(10)).await;
    moving.stop().await;
    old.stop().await;
    for number in 0..11 {
        assert!(has(after.channel().await, &content(number)).await, "{number}");
    }
    after.stop().await;
    new.stop().await;
}
