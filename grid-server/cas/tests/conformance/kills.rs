//! kill -9 while blobs are written, again and again: everything that was acknowledged is read back, and matches its digest.
//!
//! The writer is this program itself, started anew for each round; it tells what was acknowledged, and is killed a few
//! acknowledgements later, in the middle of whatever it does then. `GRID_KILLS` says how often; 20 times by default.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use grid_cas::SharedStore;
use grid_cas::backends::disk::Disk;
use grid_cas::backends::sql::Sql;
use grid_cas::conformance::{blob, pieces};
use grid_cas::index::sql::SqlPool;
use grid_cas::s3_client::layout::Layout;
use grid_core::{Digest, SystemClock};

use super::databases::{index, indexed, sqlite_pool_at};
use super::postgres;
use super::s3_server::{self, Server};
use super::trees::{disk_options, verify};

/// How often each store is killed, where `GRID_KILLS` does not say it.
const KILLS: u64 = 20;
/// How many blobs a round numbers at most.
const A_ROUND: u64 = 1_000;
const SIZES: [usize; 4] = [10, 5_000, 150_000, 700_000];

const STORE: &str = "GRID_KILLED_STORE";
const PLACE: &str = "GRID_KILLED_PLACE";
const ROUND: &str = "GRID_KILLED_ROUND";

fn numbered(number: u64) -> (Digest, bytes::Bytes) {
    blob(number, SIZES[usize::try_from(number).unwrap() % SIZES.len()])
}

/// Where a store has its parts, in the writer's process and in ours.
#[derive(Clone, Debug, Default)]
struct Place {
    folder: String,
    endpoint: String,
    database: String,
}

impl Place {
    fn parse(text: &str) -> Self {
        let mut parts = text.split('|').map(str::to_owned);
        let mut next = || parts.next().unwrap();
        Self { folder: next(), endpoint: next(), database: next() }
    }

    fn text(&self) -> String {
        format!("{}|{}|{}", self.folder, self.endpoint, self.database)
    }

    async fn s3(&self) -> SharedStore {
        let options = s3_server::options(&self.endpoint, s3_server::ACCESS, s3_server::SECRET);
        s3_server::store(options, Layout::plain("main")).await
    }

    async fn sqlite(&self) -> SqlPool {
        sqlite_pool_at(&Path::new(&self.folder).join("db")).await
    }

    async fn postgres(&self) -> SqlPool {
        SqlPool::Postgres(postgres::open(&self.database).await)
    }
}

async fn open(store: &str, place: &Place) -> SharedStore {
    let over_s3 = async |pool| {
        let index = index(pool, Duration::ZERO);
        indexed(place.s3().await, index, Arc::new(SystemClock), 1_000)
    };
    let sql = |pool| -> SharedStore { Arc::new(Sql::new(pool, Arc::new(SystemClock), "sql".into())) };
    verify(match store {
        "disk" => {
            let options = disk_options(Path::new(&place.folder), None);
            Arc::new(Disk::open(options, Arc::new(SystemClock)).await.unwrap())
        }
        "s3 and sqlite" => over_s3(place.sqlite().await).await,
        "s3 and postgresql" => over_s3(place.postgres().await).await,
        "sqlite" => sql(place.sqlite().await),
        "postgresql" => sql(place.postgres().await),
        _ => panic!("no store is called {store:?}"),
    })
}

/// The writer: told by its environment, it writes until it is killed; else it is no test at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer() {
    let set = |name: &str| std::env::var(name).ok();
    let (Some(store), Some(place), Some(round)) = (set(STORE), set(PLACE), set(ROUND)) else { return };
    let (store, first) = (open(&store, &Place::parse(&place)).await, round.parse::<u64>().unwrap() * A_ROUND);
    let write = async |lane: u64| {
        for number in (first + lane..first + A_ROUND).step_by(3) {
            let (digest, bytes) = numbered(number);
            let answer = match number % 2 {
                0 => store.write(&digest, pieces(&bytes, 40_000)).await,
                _ => store.write_batch(vec![(digest, bytes)]).await.remove(0),
            };
            answer.unwrap();
            // Not `println!`, which the test harness keeps to itself.
            writeln!(std::io::stdout().lock(), "stored {number}").unwrap();
        }
    };
    tokio::join!(write(0), write(1), write(2));
}

/// Starts a writer, kills it after so many acknowledgements, and gives all that it told.
fn killed(store: &str, place: &str, round: u64, after: usize) -> Vec<u64> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "kills::writer", "--nocapture"]);
    command.env(STORE, store).env(PLACE, place).env(ROUND, round.to_string());
    let mut writer = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut told = Vec::new();
    for line in lines {
        told.extend(line.strip_prefix("stored ").and_then(|number| number.parse::<u64>().ok()));
        if told.len() == after {
            writer.kill().unwrap();
        }
    }
    assert!(told.len() >= after, "round {round}: the writer ended by itself after {told:?}");
    writer.wait().unwrap();
    told
}

async fn survives(store: &'static str, place: Place) {
    let kills = std::env::var("GRID_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let mut all = Vec::new();
    for round in 0..kills {
        let at = place.text();
        let after = usize::try_from(1 + round % 7).unwrap();
        let told = tokio::task::spawn_blocking(move || killed(store, &at, round, after)).await.unwrap();
        check(&open(store, &place).await, &told, round).await;
        all.extend(told);
    }
    check(&open(store, &place).await, &all, kills).await;
}

async fn check(store: &SharedStore, numbers: &[u64], round: u64) {
    for number in numbers {
        let (digest, bytes) = numbered(*number);
        assert!(
            store.find_missing(&[digest]).await.unwrap().is_empty(),
            "round {round}: {number} is missing"
        );
        let read = store.read_batch(&[digest]).await.remove(0).unwrap();
        assert!(read == bytes, "round {round}: {number} is damaged");
    }
    // What was on its way is there whole, or not at all.
    for number in (round * A_ROUND..round * A_ROUND + 30).filter(|number| !numbers.contains(number)) {
        let (digest, bytes) = numbered(number);
        if store.find_missing(&[digest]).await.unwrap().is_empty() {
            assert!(store.read_batch(&[digest]).await.remove(0).unwrap() == bytes, "{number} is torn");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_keeps_what_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    survives("disk", Place { folder: folder.path().display().to_string(), ..Place::default() }).await;
}

async fn an_index_over_s3_survives(store: &'static str) {
    let server = Server::start().await;
    server.bucket("main");
    let folder = tempfile::tempdir().unwrap();
    let (folder, endpoint) = (folder.path().display().to_string(), server.endpoint.clone());
    survives(store, Place { folder, endpoint, database: postgres::place().await }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_on_sqlite_over_s3_keeps_what_it_acknowledged() {
    an_index_over_s3_survives("s3 and sqlite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_on_postgresql_over_s3_keeps_what_it_acknowledged() {
    an_index_over_s3_survives("s3 and postgresql").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_in_sqlite_keeps_what_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    survives("sqlite", Place { folder: folder.path().display().to_string(), ..Place::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_in_postgresql_keeps_what_it_acknowledged() {
    survives("postgresql", Place { database: postgres::place().await, ..Place::default() }).await;
}
