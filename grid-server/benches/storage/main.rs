//! What storage costs: the processor time of a server for 1,000 requests of each kind, beside bazel-remote and BuildGrid where
//! they are at hand, and how fast an index of a million blobs is cleaned. `cargo xtask bench storage` runs it.
//!
//! Processor time is measured rather than throughput, for the load takes as much of the machine as the server does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a measuring program")]

mod blobs;
mod cleanup;
mod crowd;
mod loads;
mod servers;

use std::pin::Pin;

use loads::{LOADS, Load};
use servers::Server;

type Start = fn() -> Started;
type Started = Pin<Box<dyn Future<Output = Option<Server>>>>;

/// What is measured, in this order: the first is what the others are compared with.
const SERVERS: &[(&str, Start)] = &[
    ("memory", || Box::pin(servers::ours("!lru-storage &cas {size: 4G}", "", &[]))),
    ("disk", || Box::pin(servers::ours("!disk-storage &cas {path: cas}", "", &[]))),
    ("index", || {
        let index = "!sql-index &cas {storage: !disk-storage {path: cas}, sql: !sql-connection {connection-string: \
                     'sqlite:///index.db'}, refresh-accesstime-older-than: 3600}";
        Box::pin(servers::ours(index, "", &[]))
    }),
    ("bazel-remote", || Box::pin(servers::bazel_remote())),
    ("BuildGrid", || Box::pin(servers::buildgrid())),
];

/// Those of them that are ours.
const OURS: [&str; 3] = ["memory", "disk", "index"];

/// What one server took for each load, in seconds of processor time for 1,000 requests.
struct Column {
    name: &'static str,
    cost: Vec<f64>,
    /// The most memory that it had, in MiB.
    memory: u64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| name.contains(word));
    let mut columns = Vec::new();
    for (name, start) in SERVERS {
        if !is_wanted(name) {
            continue;
        }
        match start().await {
            Some(server) => columns.push(measure(name, &server).await),
            None => println!("{name} is not at hand, and not measured"),
        }
    }
    print(&columns);
    if is_wanted("crowd") {
        print_crowds().await;
    }
    if is_wanted("cleanup") {
        cleanup::measure().await;
    }
}

async fn measure(name: &'static str, server: &Server) -> Column {
    let mut cost = Vec::new();
    for load in LOADS {
        load.prepare(server).await;
        let before = server.processor_time();
        load.run(server).await;
        cost.push((server.processor_time() - before).as_secs_f64() * 1_000.0 / f64::from(load.requests));
    }
    Column { name, cost, memory: server.most_memory() }
}

/// A table as `docs/performance.md` has it: each peer's cost with its ratio to that of the first column.
fn print(columns: &[Column]) {
    let Some(first) = columns.first() else { return };
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    println!("| CPU s for 1,000 requests | wanted | {} |", names.join(" | "));
    println!("|{}", "---|".repeat(columns.len() + 2));
    for (row, Load { name, wanted, .. }) in LOADS.iter().enumerate() {
        let cells = columns.iter().map(|column| {
            let ratio = column.cost[row] / first.cost[row].max(0.001);
            format!("{:.2} ({ratio:.1}×)", column.cost[row])
        });
        println!("| {name} | {wanted} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    let memory = columns.iter().map(|column| format!("{} MiB", column.memory));
    println!("| most memory | | {} |", memory.collect::<Vec<_>>().join(" | "));
}

/// What a crowd costs our servers in memory.
async fn print_crowds() {
    println!();
    println!(
        "| growth of memory, wanted: 200 MiB at most | 1,000 slow readers of 1 MiB | 1,000 half-open uploads |"
    );
    println!("|---|---|---|");
    for (name, start) in SERVERS.iter().filter(|(name, _)| OURS.contains(name)) {
        let Some(server) = start().await else { continue };
        let [readers, uploads] = crowd::measure(&server).await;
        println!("| {name} | {readers} MiB | {uploads} MiB |");
    }
}
