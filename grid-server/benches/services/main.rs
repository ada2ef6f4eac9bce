//! What services cost: the processor time of a server for 1,000 requests of each kind, with and without tokens, beside
//! bazel-remote and BuildGrid where they are at hand; and of that the share of metrics, spans and authentication.
//! `cargo xtask bench services` runs it.
//!
//! Processor time is measured rather than throughput, for the load takes as much of the machine as the server does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a measuring program")]

#[path = "../storage/blobs.rs"]
mod blobs;
mod calls;
mod layers;
mod loads;
#[path = "../storage/servers.rs"]
mod servers;

use std::pin::Pin;

use calls::Calls;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use loads::LOADS;
use servers::Server;

type Start = fn() -> Started;
type Started = Pin<Box<dyn Future<Output = Option<Server>>>>;

const STORAGE: &str = "!lru-storage &cas {size: 4G}";
const WITH_TOKENS: &str = "authorization: {method: jwt, secret: key, algorithm: hs256}";
/// What tokens are signed with here; the server reads it from a file.
const KEY: &str = "a key of at least thirty-two bytes.";

/// What is measured, in this order: the first is what the others are compared with.
const SERVERS: &[(&str, Start)] = &[
    ("ours", || Box::pin(servers::ours(STORAGE, "", &[]))),
    ("with tokens", || Box::pin(servers::ours(STORAGE, WITH_TOKENS, &[("key", KEY)]))),
    ("bazel-remote", || Box::pin(servers::bazel_remote())),
    ("BuildGrid", || Box::pin(servers::buildgrid())),
];

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
    if is_wanted("layers") {
        let results = LOADS.iter().position(|load| load.name == "GetActionResult");
        let ours = columns.iter().find(|column| column.name == "ours");
        // Seconds for a thousand are milliseconds for one.
        let whole = results.zip(ours).map(|(row, ours)| ours.cost[row] * 1_000.0);
        layers::measure(&token(), KEY, whole).await;
    }
}

fn token() -> String {
    let claims = serde_json::json!({"sub": "bench", "exp": 4_000_000_000_u64});
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(KEY.as_bytes()))
        .expect("a token")
}

async fn measure(name: &'static str, server: &Server) -> Column {
    let calls = Calls::new(server.channel(), (name == "with tokens").then(token).as_deref());
    loads::prepare(&calls).await;
    let mut cost = Vec::new();
    for load in LOADS {
        let before = server.processor_time();
        load.run(&calls).await;
        cost.push((server.processor_time() - before).as_secs_f64() * 1_000.0 / f64::from(load.requests));
    }
    Column { name, cost, memory: server.most_memory() }
}

/// A table as `docs/performance.md` has it: each server's cost with its ratio to that of the first.
fn print(columns: &[Column]) {
    let Some(first) = columns.first() else { return };
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    println!("| CPU s for 1,000 requests | wanted | {} |", names.join(" | "));
    println!("|{}", "---|".repeat(columns.len() + 2));
    for (row, load) in LOADS.iter().enumerate() {
        let cells = columns.iter().map(|column| {
            let ratio = column.cost[row] / first.cost[row].max(0.001);
            format!("{:.3} ({ratio:.2}×)", column.cost[row])
        });
        println!("| {} | {} | {} |", load.name, load.wanted, cells.collect::<Vec<_>>().join(" | "));
    }
    let memory = columns.iter().map(|column| format!("{} MiB", column.memory));
    println!("| most memory | | {} |", memory.collect::<Vec<_>>().join(" | "));
}
