//! `fsck` and `janitor` beside a server: a disk with an index, on SQLite and on PostgreSQL.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, SystemTime};

use grid_core::{Digest, DigestFunction};
use grid_scheduler_sql::testing;
use support::Server;
use tokio::process::Command;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn config(database: &str) -> String {
    format!(
        "
connections: [!sql-connection &db {{connection-string: '{database}', automigrate: yes}}]
storages:
  - !disk-storage &disk {{path: cas}}
  - !sql-index &index {{storage: *disk, sql: *db, max-inline-blob-size: 100}}
instances: [{{name: '', services: [!cas {{storage: *index}}, !bytestream {{storage: *index}}]}}]
"
    )
}

fn content(number: u8) -> Vec<u8> {
    let mut content = vec![b'.'; 1_000];
    content[0] = number;
    content
}

fn file(server: &Server, content: &[u8]) -> PathBuf {
    let hash = Digest::of(DigestFunction::Sha256, content).hash_hex();
    server.folder().join("cas/cas/objects").join(&hash[..2]).join(&hash[2..])
}

/// Puts a blob where only the disk knows of it, written so long ago.
fn put_orphan(server: &Server, content: &[u8], age: Duration) {
    let path = file(server, content);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

async fn run(folder: &Path, config: &str, arguments: &[&str]) -> Output {
    let path = folder.join("upkeep.yml");
    fs::write(&path, format!("server: [!channel {{address: '127.0.0.1:0', insecure-mode: yes}}]\n{config}"))
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_grid-server"));
    command.arg(arguments[0]).arg(&path).args(&arguments[1..]).current_dir(folder).env_remove("RUST_LOG");
    tokio::time::timeout(Duration::from_secs(60), command.output()).await.unwrap().unwrap()
}

fn said(output: &Output, succeeds: bool) -> String {
    assert_eq!(output.status.success(), succeeds, "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

async fn a_server_is_looked_after_while_it_serves(database: &str) {
    let config = config(database);
    let server = Server::start(&config).await;
    for number in 0..10 {
        support::store_blob(server.channel().await, content(number)).await;
    }
    let has = async |number| support::has(server.channel().await, &content(number)).await;
    // A database and a disk of different moments.
    (0..3).for_each(|number| fs::remove_file(file(&server, &content(number))).unwrap());
    (10..12).for_each(|number| put_orphan(&server, &content(number), Duration::ZERO));

    let found = said(&run(server.folder(), &config, &["fsck"]).await, false);
    assert!(found.contains("does not know 2000 bytes in 2 blobs (0 bytes in 0 blobs adopted)"), "{found}");
    assert!(found.contains("lacks 3000 bytes in 3 blobs (0 bytes in 0 blobs forgotten)"), "{found}");
    assert!(found.contains("fsck --repair"), "{found}");
    assert!(has(0).await && !has(10).await, "nothing is changed by looking");

    let repaired = said(&run(server.folder(), &config, &["fsck", "--repair"]).await, true);
    assert!(repaired.contains("lacks 3000 bytes in 3 blobs (3000 bytes in 3 blobs forgotten)"), "{repaired}");
    for number in 0..12 {
        assert_eq!(has(number).await, number >= 3, "{number}");
    }
    said(&run(server.folder(), &config, &["fsck"]).await, true);
    support::store_blob(server.channel().await, content(0)).await;
    assert!(has(0).await && file(&server, &content(0)).exists());

    put_orphan(&server, &content(20), DAY * 2);
    put_orphan(&server, &content(21), Duration::ZERO);
    let told = said(&run(server.folder(), &config, &["janitor", "--dry-run"]).await, true);
    assert!(told.contains("does not know 1000 bytes in 1 blobs (0 bytes in 0 blobs deleted)"), "{told}");
    assert!(told.contains("1000 bytes in 1 blobs that are too young"), "{told}");
    assert!(file(&server, &content(20)).exists());
    let monitored = format!("{config}monitoring: {{endpoint-type: file, endpoint-location: published}}\n");
    let swept = said(&run(server.folder(), &monitored, &["janitor"]).await, true);
    assert!(swept.contains("(1000 bytes in 1 blobs deleted)"), "{swept}");
    assert!(!file(&server, &content(20)).exists() && file(&server, &content(21)).exists());
    let published = fs::read_to_string(server.folder().join("published")).unwrap();
    let line =
        "cleanup.janitor.blob_bytes.count,objectAgeRange=2880_TO_10080,objectSizeRange=0_TO_2000:1000|ms\n";
    assert!(published.contains(line), "{published}");
    assert!(has(0).await && has(9).await && has(11).await);
    server.stop().await;
}

#[tokio::test]
async fn a_server_on_sqlite_is_looked_after() {
    a_server_is_looked_after_while_it_serves("sqlite:///index.db").await;
}

#[tokio::test]
async fn a_server_on_postgresql_is_looked_after() {
    let url = tokio::task::spawn_blocking(testing::postgres_url).await.unwrap();
    a_server_is_looked_after_while_it_serves(&url).await;
}

#[tokio::test]
async fn what_can_not_be_looked_after_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let plain = "instances: [{name: '', services: [!cas {storage: !disk-storage {path: cas}}]}]";
    let shared = config("sqlite:///index.db").replace(
        "instances",
        "  - !sql-index &other {storage: *disk, sql: *db, index-name: other}\ninstances",
    );
    let memory = config("sqlite:///index.db")
        .replace("!disk-storage &disk {path: cas}", "!lru-storage &disk {size: 1M}");
    for (config, reason) in [
        (plain, "has no index"),
        (shared.as_str(), "indexes the same storage"),
        (memory.as_str(), "in the memory of the server"),
    ] {
        for command in ["fsck", "janitor"] {
            let output = run(folder.path(), config, &[command]).await;
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && stderr.contains(reason), "{command}: {stderr}");
        }
    }
}
