//! The scheduler's figures on a database of its own: actions a second and what they cost, the time to pick a job up
//! on an idle grid, what idle bots cost, and what a long queue does to all of it.
//!
//! Clients and bots call the scheduler itself; what gRPC adds is not in these figures. PostgreSQL runs with its
//! defaults, and so with `synchronous_commit=on` and fsync. Arguments: `postgres` or `sqlite` for one of them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that fails is no measurement")]
#![allow(clippy::print_stdout, reason = "a table is its purpose")]

mod load;

use std::sync::Arc;
use std::time::{Duration, Instant};

use grid_scheduler::ids::TimeOrderedIds;
use grid_scheduler::store::QueueStore;
use grid_scheduler::{Scheduler, SchedulerOptions};
use grid_scheduler_sql::testing::{self, Cpu, Postgres};
use grid_scheduler_sql::{Database, DatabaseOptions, PostgresQueue, SqliteQueue, migrate};

use load::Load;

/// A database, its name in the table, and replicas on it.
struct Bench {
    name: &'static str,
    stores: Vec<Arc<dyn QueueStore>>,
    cpu: Cpu,
}

impl Bench {
    fn replica(&self, index: usize) -> Arc<Scheduler> {
        let options = SchedulerOptions { fair: true, ..SchedulerOptions::default() };
        Scheduler::start(options, Arc::clone(&self.stores[index]), Arc::new(TimeOrderedIds))
    }

    async fn throughput(&self, actions: u32) {
        let load = Load { clients: 400, bots: 100, capacity: 8, actions };
        let scheduler = self.replica(0);
        let (cpu, began) = (self.cpu.seconds(), Instant::now());
        load.run(&scheduler).await;
        let (wall, cpu) = (began.elapsed().as_secs_f64(), self.cpu.seconds() - cpu);
        let thousands = f64::from(actions) / 1_000.0;
        println!("| {} | actions/s, {actions} actions | {:.0} |", self.name, f64::from(actions) / wall);
        println!("| {} | CPU s per 1,000 actions, with the database | {:.2} |", self.name, cpu / thousands);
    }

    /// The time from a client's call to the bot that hears of it, where bots wait.
    async fn pickup(&self, what: &str, client: &Arc<Scheduler>, bots: &Arc<Scheduler>) {
        let mut times = load::pickup(client, bots, 500).await;
        times.sort_unstable();
        let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1_000.0;
        println!("| {} | pick-up {what}, p50 / p99 in ms | {:.1} / {:.1} |", self.name, at(50), at(99));
    }

    async fn idle(&self) {
        let scheduler = self.replica(0);
        let bots = load::idle_bots(&scheduler, 1_000).await;
        let span = Duration::from_secs(30);
        let cpu = self.cpu.seconds();
        tokio::time::sleep(span).await;
        let share = (self.cpu.seconds() - cpu) / span.as_secs_f64() * 100.0;
        drop(bots);
        println!("| {} | 1,000 idle bots with polls of 30 s, % of a core | {share:.1} |", self.name);
    }

    async fn depth(&self, queued: u32) {
        let scheduler = self.replica(0);
        load::queue_up(&scheduler, queued).await;
        self.throughput(10_000).await;
        println!("| {} | the line above: with {queued} jobs waiting for others |", self.name);
    }

    async fn run(&self) {
        self.throughput(20_000).await;
        let first = self.replica(0);
        self.pickup("on one replica", &first, &first).await;
        if let Some(store) = self.stores.get(1) {
            let options = SchedulerOptions::default();
            let second = Scheduler::start(options, Arc::clone(store), Arc::new(TimeOrderedIds));
            self.pickup("on another replica", &first, &second).await;
        }
        drop(first);
        self.idle().await;
        self.depth(100_000).await;
    }
}

async fn postgres() {
    let instance = Postgres::start(&["-c shared_buffers=256MB"]);
    let url = instance.create("bench");
    let database = Database::open(&url, DatabaseOptions::default()).await.expect("a database");
    migrate::migrate(&database).await.expect("migrations");
    let Database::Postgres(pool) = database else { return };
    let other = PostgresQueue::new(pool.clone());
    let stores: Vec<Arc<dyn QueueStore>> = vec![Arc::new(PostgresQueue::new(pool)), Arc::new(other)];
    Bench { name: "PostgreSQL", stores, cpu: Cpu::of([std::process::id(), instance.pid()]) }.run().await;
}

async fn sqlite() {
    let (database, _folder) = testing::sqlite().await;
    let Database::Sqlite(pool) = database else { return };
    let stores: Vec<Arc<dyn QueueStore>> = vec![Arc::new(SqliteQueue::new(pool))];
    Bench { name: "SQLite", stores, cpu: Cpu::of([std::process::id()]) }.run().await;
}

#[tokio::main]
async fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|argument| argument == name);
    println!("| database | what | figure |\n|---|---|---|");
    if wants("postgres") {
        postgres().await;
    }
    if wants("sqlite") {
        sqlite().await;
    }
}
