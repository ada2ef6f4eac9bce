//! Execution through gRPC, by server processes on one PostgreSQL: ours beside BuildGrid, each with the same simulated
//! clients and bots; and the memory of ours when ten thousand clients wait. `cargo xtask bench scheduler` runs it.
//!
//! Arguments: `beside`, `waiters`; both where none is given. The load runs on the same machine, and its processor time
//! is in none of the figures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that fails is none"
)]
#![allow(clippy::print_stdout, reason = "a table is its purpose")]

mod load;
mod servers;

use std::time::{Duration, Instant};

use futures::future::join_all;
use grid_scheduler_sql::Database;
use grid_scheduler_sql::testing::Postgres;
use tokio::sync::mpsc;
use tokio::time::sleep;

use servers::Grid;

/// How much is asked of a server: of the slow one less, for the same figures in the same time.
struct Amount {
    /// More than come to an end in `window`, where that is to be what ends the measuring.
    actions: u32,
    /// Actions that end before it is measured.
    warm: u32,
    /// How long it is measured at most.
    window: Duration,
    pickups: u32,
    /// Between two pick-ups, so that the bot waits again.
    pause: Duration,
    /// Until a crowd of bots has come to rest.
    settling: Duration,
}

const OURS: Amount = Amount {
    actions: 20_000,
    warm: 400,
    window: Duration::from_secs(20),
    pickups: 400,
    pause: Duration::from_millis(10),
    settling: Duration::from_secs(5),
};
const THEIRS: Amount = Amount {
    actions: 3_000,
    warm: 50,
    window: Duration::from_secs(30),
    pickups: 15,
    pause: Duration::from_secs(1),
    settling: Duration::from_secs(15),
};
const CLIENTS: usize = 400;
const BOTS: usize = 100;
const CAPACITY: u32 = 8;
const IDLE_BOTS: usize = 1_000;
/// For how long a crowd of idle bots is measured: a poll of each.
const REST: Duration = Duration::from_secs(30);
const WAITERS: u32 = 10_000;

/// What was measured of one server.
struct Column {
    name: &'static str,
    /// In the order of [`ROWS`].
    figures: [f64; ROWS.len()],
}

/// The rows of the table: what, decimals, and what is wanted of ours.
const ROWS: [(&str, usize, &str); 6] = [
    ("actions a second", 0, "2,000"),
    ("CPU s per 1,000 actions, server and database", 2, "0.6"),
    ("database round trips an action", 1, "4"),
    ("pick-up on an idle grid, p50 in ms", 1, "5"),
    ("pick-up on an idle grid, p99 in ms", 1, "15"),
    ("1,000 idle bots with polls of 30 s, % of a core", 1, "2"),
];

async fn measure(grid: &Grid, amount: &Amount) -> Column {
    let began = Instant::now();
    let (p50, p99) = pickup(grid, amount).await;
    // Before there is anything that the database has to clean up.
    let idle = idle(grid, amount).await;
    let (rate, cpu, trips) = throughput(grid, amount).await;
    println!("{} is measured, in {:.0} s", grid.name, began.elapsed().as_secs_f64());
    Column { name: grid.name, figures: [rate, cpu, trips, p50, p99, idle] }
}

async fn pickup(grid: &Grid, amount: &Amount) -> (f64, f64) {
    let actions = load::store_actions(&grid.clients[0], "pickup", amount.pickups + 1).await;
    let (heard, hears) = mpsc::unbounded_channel();
    let _bots = load::bots(&grid.bots, "pickup", 4, 1, Some(&heard));
    sleep(Duration::from_secs(3)).await;
    let times = load::pickup(&grid.clients[0], &actions, hears, amount.pause).await;
    let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1_000.0;
    (at(50), at(99))
}

async fn throughput(grid: &Grid, amount: &Amount) -> (f64, f64, f64) {
    let actions = load::store_actions(&grid.clients[0], "load", amount.actions).await;
    let _bots = load::bots(&grid.bots, "load", BOTS, CAPACITY, None);
    sleep(Duration::from_secs(5)).await;
    let mut run = load::Run::start(&grid.clients, CLIENTS, actions);
    run.reaches(amount.warm).await;
    let (before, began) = (run.finished(), Instant::now());
    let (cpu, trips) = (grid.cpu.seconds(), round_trips(&grid.database).await);
    run.runs_out_within(amount.window).await;
    let (number, took) = (f64::from(run.finished() - before), began.elapsed());
    let (cpu, trips) = (grid.cpu.seconds() - cpu, round_trips(&grid.database).await - trips);
    (number / took.as_secs_f64(), cpu * 1_000.0 / number, trips / number)
}

/// The statements that the database has executed: each is a round trip.
async fn round_trips(database: &Database) -> f64 {
    let Database::Postgres(pool) = database else { return f64::NAN };
    let query = "SELECT coalesce(sum(calls), 0)::float8 FROM public.pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid \
                 WHERE d.datname = current_database()";
    sqlx::query_scalar(query).fetch_one(pool).await.expect("statistics")
}

async fn idle(grid: &Grid, amount: &Amount) -> f64 {
    let _bots = load::bots(&grid.bots, "nowhere", IDLE_BOTS, 1, None);
    sleep(amount.settling).await;
    let cpu = grid.cpu.seconds();
    sleep(REST).await;
    (grid.cpu.seconds() - cpu) / REST.as_secs_f64() * 100.0
}

/// A table as `docs/performance.md` has it, with each figure's ratio to that of the first column.
fn print(columns: &[Column]) {
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    println!("| figure | wanted | {} |\n|{}", names.join(" | "), "---|".repeat(names.len() + 2));
    for (row, (what, decimals, wanted)) in ROWS.iter().enumerate() {
        let first = columns[0].figures[row];
        let cells = columns.iter().map(|column| {
            let figure = column.figures[row];
            format!("{figure:.decimals$} ({:.2}×)", figure / first.max(0.01))
        });
        println!("| {what} | {wanted} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}

async fn beside() {
    let postgres =
        Postgres::start(&["-c shared_buffers=256MB", "-c shared_preload_libraries=pg_stat_statements"]);
    let mut columns = Vec::new();
    for (name, replicas) in [("grid-server, one process", 1), ("grid-server, two processes", 2)] {
        let url = database(&postgres, &format!("ours{replicas}")).await;
        columns.push(measure(&Grid::ours(name, replicas, &url, &postgres).await, &OURS).await);
    }
    let url = database(&postgres, "theirs").await;
    match Grid::buildgrid(&url, &postgres).await {
        Some(grid) => columns.push(measure(&grid, &THEIRS).await),
        None => {
            println!(
                "BuildGrid is not at hand, and not measured: set GRID_BUILDGRID to its programs' folder"
            );
        }
    }
    print(&columns);
}

/// A database whose statements are counted.
async fn database(postgres: &Postgres, name: &str) -> String {
    let url = postgres.create(name);
    let pool = sqlx::PgPool::connect(&url).await.expect("a connection");
    sqlx::query("CREATE EXTENSION pg_stat_statements SCHEMA public")
        .execute(&pool)
        .await
        .expect("the extension");
    url
}

/// What clients that wait cost: each for an action of its own that nobody can run.
async fn waiters() {
    let (server, _folder) = servers::embedded().await;
    let channels = server.connections(100).await;
    let actions = load::store_actions(&channels[0], "nowhere", WAITERS).await;
    let before = server.memory();
    let mut waiting = Vec::new();
    for actions in actions.chunks(500) {
        let each = actions.iter().zip(channels.iter().cycle());
        waiting.extend(
            join_all(each.map(async |(action, channel)| {
                let mut operations = load::execute(channel.clone(), action).await;
                assert!(operations.message().await.expect("an operation").is_some_and(|one| !one.done));
                operations
            }))
            .await,
        );
    }
    let waited = server.memory();
    sleep(REST).await;
    println!("| {WAITERS} clients that wait | MiB | wanted |\n|---|---|---|");
    println!("| resident before they come | {before} | |");
    println!("| more when all wait | {} | 200 |", waited - before);
    println!(
        "| more after {} s, in which operations are read anew | {} | 200 |",
        REST.as_secs(),
        server.memory() - before
    );
    drop(waiting);
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    if wants("beside") {
        beside().await;
    }
    if wants("waiters") {
        waiters().await;
    }
}
