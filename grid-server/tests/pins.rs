//! `pin`, `unpin` and `pins` beside a server: what is pinned outlives cleanup.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::path::Path;
use std::time::Duration;

use grid_core::{Digest, DigestFunction};
use grid_proto::reapi::{self, Directory, DirectoryNode, FileNode};
use grid_scheduler_sql::testing;
use prost::Message as _;
use support::Server;
use tokio::process::Command;

fn config(database: &str) -> String {
    format!(
        "
connections: [!sql-connection &db {{connection-string: '{database}', automigrate: yes}}]
storages:
  - !disk-storage &disk {{path: cas}}
  - !sql-index &index {{storage: *disk, sql: *db, promised-lifetime: {{seconds: 0}}}}
instances: [{{name: '', services: [!cas {{storage: *index}}, !bytestream {{storage: *index}}]}}]
"
    )
}

const CLEANUP: &str =
    "cleanup: [{instance-name: tier, index: *index, high-watermark: 1, low-watermark: 0, batch-size: 3000}]";

fn content(number: u8) -> Vec<u8> {
    let mut content = vec![b'.'; 1_000];
    content[0] = number;
    content
}

fn digest(content: &[u8]) -> String {
    Digest::of(DigestFunction::Sha256, content).to_string()
}

fn node(content: &[u8]) -> Option<reapi::Digest> {
    let digest = Digest::of(DigestFunction::Sha256, content);
    Some(reapi::Digest { hash: digest.hash_hex(), size_bytes: digest.size_signed() })
}

/// What a command says, and whether it succeeds.
async fn run(folder: &Path, config: &str, arguments: &[&str]) -> (bool, String) {
    std::fs::write(
        folder.join("pins.yml"),
        format!("server: [!channel {{address: '127.0.0.1:0', insecure-mode: yes}}]\n{config}"),
    )
    .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_grid-server"));
    command
        .arg(arguments[0])
        .arg("pins.yml")
        .args(&arguments[1..])
        .current_dir(folder)
        .env_remove("RUST_LOG");
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await.unwrap().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

async fn what_is_pinned_outlives_cleanup(database: &str) {
    let config = config(database);
    let server = Server::start(&config).await;
    // A directory with a file and one in a directory, and others that are in none.
    let inner = Directory {
        files: vec![FileNode { name: "b".into(), digest: node(&content(1)), ..FileNode::default() }],
        ..Directory::default()
    };
    let inner = inner.encode_to_vec();
    let files = [&content(0)[..], &[]].map(|file| FileNode {
        name: file.len().to_string(),
        digest: node(file),
        ..FileNode::default()
    });
    let root = Directory {
        files: files.to_vec(),
        directories: vec![DirectoryNode { name: "d".into(), digest: node(&inner) }],
        ..Directory::default()
    };
    let root = root.encode_to_vec();
    for blob in [root.clone(), inner.clone()].into_iter().chain((0..6).map(content)) {
        support::store_blob(server.channel().await, blob).await;
    }
    let folder = server.folder();
    let has = async |blob: &[u8]| support::has(server.channel().await, blob).await;

    let (ok, said) = run(folder, &config, &["pin", &digest(&root), "--tree", "--for", "30D"]).await;
    assert!(ok && said.contains(" in 4 blobs until 20"), "{said}");
    let (ok, said) = run(folder, &config, &["pin", &digest(&content(2)), "--for", "1D"]).await;
    assert!(ok && said.contains("pinned 1000 bytes in 1 blobs until"), "{said}");
    let (ok, said) = run(folder, &config, &["pin", &digest(&content(9)), "--for", "1D"]).await;
    assert!(!ok && said.contains("no index knows it; upload it first"), "{said}");
    let (ok, said) = run(folder, &config, &["pins"]).await;
    assert!(ok && said.contains(" in 5 blobs pinned") && said.contains(&digest(&content(1))), "{said}");

    let cleaned = format!("{config}{CLEANUP}\n");
    let (ok, said) = run(folder, &cleaned, &["cleanup", "--once"]).await;
    assert!(
        ok && said.contains("deleted 3000 bytes in 3 blobs") && said.contains("5 blobs are pinned"),
        "{said}"
    );
    for (blob, stays) in
        [(root.clone(), true), (inner, true), (content(1), true), (content(2), true), (content(3), false)]
    {
        assert_eq!(has(&blob).await, stays);
    }
    let (ok, said) = run(folder, &config, &["unpin", &digest(&content(2))]).await;
    assert!(ok && said.contains("1000 bytes in 1 blobs pinned no longer"), "{said}");
    let (ok, said) = run(folder, &config, &["unpin", &digest(&root), "--tree"]).await;
    assert!(ok && said.contains(" in 4 blobs pinned no longer"), "{said}");
    let (ok, said) = run(folder, &cleaned, &["cleanup", "--once"]).await;
    assert!(ok && !said.contains("kept") && !has(&root).await, "{said}");
    server.stop().await;
}

#[tokio::test]
async fn what_is_pinned_outlives_cleanup_on_sqlite() {
    what_is_pinned_outlives_cleanup("sqlite:///index.db").await;
}

#[tokio::test]
async fn what_is_pinned_outlives_cleanup_on_postgresql() {
    let url = tokio::task::spawn_blocking(testing::postgres_url).await.unwrap();
    what_is_pinned_outlives_cleanup(&url).await;
}

#[tokio::test]
async fn pins_that_nothing_would_keep_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let blob = digest(&content(0));
    let pin = ["pin", &blob, "--for", "1D"];
    let plain =
        "instances: [{name: '', services: [!cas {storage: !disk-storage {path: cas, max-size: 1M}}]}]";
    let (ok, said) = run(folder.path(), plain, &pin).await;
    assert!(!ok && said.contains("put an index before the storage"), "{said}");
    let config = config("sqlite:///index.db");
    let (ok, said) = run(folder.path(), &config, &["pin", &blob, "--for", "100000D"]).await;
    assert!(!ok && said.contains("more than a hundred years"), "{said}");
    let limited = config.replace("{path: cas}", "{path: cas, max-size: 1M}");
    let (_, said) = run(folder.path(), &limited, &pin).await;
    assert!(said.contains("evicts what is pinned too"), "{said}");
}
