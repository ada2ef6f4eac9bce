//! `cleanup` beside a server: a disk with an index, on SQLite and on PostgreSQL.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use grid_scheduler_sql::testing;
use support::Server;
use tokio::process::Command;

const BLOBS: u8 = 40;
const SIZE: usize = 1_000;

/// A disk with an index in `database`.
fn storage(database: &str, promised: &str) -> String {
    format!(
        "
connections: [!sql-connection &db {{connection-string: '{database}', automigrate: yes}}]
storages:
  - !disk-storage &disk {{path: cas}}
  - !sql-index &index {{storage: *disk, sql: *db, promised-lifetime: {promised}, max-inline-blob-size: 100}}
"
    )
}

fn served(database: &str, promised: &str) -> String {
    let services =
        "instances: [{name: '', services: [!cas {storage: *index}, !bytestream {storage: *index}]}]";
    format!("{}{services}\n", storage(database, promised))
}

fn watermarks(high: u32, low: u32) -> String {
    format!(
        "cleanup: [{{instance-name: tier, index: *index, high-watermark: {high}, low-watermark: {low}, batch-size: 3000}}]\n"
    )
}

fn content(number: u8) -> Vec<u8> {
    // Every fourth is small enough to lie in the index itself.
    let size = if number.is_multiple_of(4) { 90 } else { SIZE };
    let mut content = vec![b'.'; size];
    content[0] = number;
    content
}

fn total() -> u64 {
    (0..BLOBS).map(|number| content(number).len() as u64).sum()
}

async fn fill(server: &Server) {
    for number in 0..BLOBS {
        support::store_blob(server.channel().await, content(number)).await;
    }
}

async fn present(server: &Server) -> Vec<u8> {
    let mut present = Vec::new();
    for number in 0..BLOBS {
        if support::has(server.channel().await, &content(number)).await {
            present.push(number);
        }
    }
    present
}

async fn cleanup(folder: &Path, config: &str, arguments: &[&str]) -> Output {
    // A file for each: one that another writes anew would be read half.
    let mut file = tempfile::Builder::new().suffix(".yml").tempfile_in(folder).unwrap();
    file.write_all(config.as_bytes()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_grid-server"));
    command.arg("cleanup").arg(file.path()).args(arguments).current_dir(folder).env_remove("RUST_LOG");
    tokio::time::timeout(Duration::from_secs(60), command.output()).await.unwrap().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn bytes(numbers: &[u8]) -> usize {
    numbers.iter().map(|number| content(*number).len()).sum()
}

async fn a_pass_ends_at_the_low_watermark(database: &str) {
    let server = Server::start(&served(database, "{seconds: 0}")).await;
    fill(&server).await;
    let total = total();
    let config = storage(database, "{seconds: 0}") + &watermarks(20_000, 10_000);

    let dry = said(&cleanup(server.folder(), &config, &["--dry-run"]).await);
    assert!(dry.starts_with(&format!("tier: {total} bytes in {BLOBS} blobs, would delete")), "{dry}");
    assert_eq!(present(&server).await.len(), usize::from(BLOBS));
    let high = said(&cleanup(server.folder(), &config, &["--once", "--high-watermark", "1M"]).await);
    assert!(high.contains("deleted 0 bytes in 0 blobs"), "{high}");

    // What goes is what was used longest ago, and it can come back.
    said(&cleanup(server.folder(), &config, &["--once", "--low-watermark", "15000"]).await);
    let left = present(&server).await;
    let youngest: Vec<u8> = (BLOBS - u8::try_from(left.len()).unwrap()..BLOBS).collect();
    assert!(left == youngest && bytes(&left) <= 15_000 && bytes(&left) > 10_000, "{left:?}");

    // Of two at once one has its turn: no more goes than is too much.
    let lower = ["--once", "--high-watermark", "12000"];
    let (one, two) =
        tokio::join!(cleanup(server.folder(), &config, &lower), cleanup(server.folder(), &config, &lower));
    said(&one);
    said(&two);
    let left = present(&server).await;
    assert!(bytes(&left) <= 10_000 && bytes(&left) > 10_000 - SIZE, "{} bytes in {left:?}", bytes(&left));
    // Blobs are gone from the disk too, not from the index alone.
    let files = walk(&server.folder().join("cas"));
    assert_eq!(files, left.iter().filter(|number| content(**number).len() == SIZE).count());
    // And what was deleted beside the server it stores again.
    support::store_blob(server.channel().await, content(1)).await;
    assert!(support::has(server.channel().await, &content(1)).await);
    assert_eq!(walk(&server.folder().join("cas")), files + 1);
    server.stop().await;
}

fn walk(folder: &Path) -> usize {
    let count = |path: &Path| {
        if path.is_dir() { walk(path) } else { usize::from(path.metadata().unwrap().len() == SIZE as u64) }
    };
    std::fs::read_dir(folder).unwrap().map(|entry| count(&entry.unwrap().path())).sum()
}

#[tokio::test]
async fn a_pass_ends_at_the_low_watermark_on_sqlite() {
    a_pass_ends_at_the_low_watermark("sqlite:///index.db").await;
}

#[tokio::test]
async fn a_pass_ends_at_the_low_watermark_on_postgresql() {
    let url = tokio::task::spawn_blocking(testing::postgres_url).await.unwrap();
    a_pass_ends_at_the_low_watermark(&url).await;
}

#[tokio::test]
async fn what_was_promised_is_kept_and_named() {
    let database = "sqlite:///index.db";
    let server = Server::start(&served(database, "{hours: 3}")).await;
    fill(&server).await;
    let config = storage(database, "{hours: 3}") + &watermarks(20_000, 10_000);
    let said = said(&cleanup(server.folder(), &config, &["--once"]).await);
    let over = total() - 10_000;
    assert!(said.contains(&format!("{over} bytes and 0 blobs above the low watermark were kept")), "{said}");
    assert!(said.contains("used within"), "{said}");
    assert_eq!(present(&server).await.len(), usize::from(BLOBS));
    server.stop().await;
}

#[tokio::test]
async fn a_server_with_a_cleanup_cleans_what_it_serves() {
    let config = served("sqlite:///index.db", "{seconds: 0}") + &watermarks(5_000, 1_000);
    let server = Server::start(&config).await;
    // More than the high watermark before the first pass or after it: either way a pass sees it within its interval.
    fill(&server).await;
    let cleaned = async {
        loop {
            let (_, metrics) = server.get("/metrics").await;
            let deleted = metrics.lines().find_map(|line| {
                line.strip_prefix("grid_cleanup_deleted_bytes_total{name=\"tier\"} ")?.parse::<u64>().ok()
            });
            if deleted.is_some_and(|deleted| deleted >= total() - 5_000) {
                return;
            }
            server.says("tier: ").await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), cleaned).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn what_can_not_be_cleaned_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = cleanup(
        folder.path(),
        "server: [!channel {address: '127.0.0.1:0', insecure-mode: yes}]\ninstances: []\n",
        &["--once"],
    )
    .await;
    assert!(!nothing.status.success());
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("no `cleanup`"), "{nothing:?}");

    let memory = storage("sqlite:///index.db", "{seconds: 0}")
        .replace("!disk-storage &disk {path: cas}", "!lru-storage &disk {size: 1M}");
    let output = cleanup(folder.path(), &(memory + &watermarks(2, 1)), &["--once"]).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && stderr.contains("in the memory of the server"), "{stderr}");

    let wrong = storage("sqlite:///index.db", "{seconds: 0}") + &watermarks(2, 1);
    let output = cleanup(folder.path(), &wrong, &["--once", "--low-watermark", "1G"]).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && stderr.contains("is above the high one"), "{stderr}");
}
