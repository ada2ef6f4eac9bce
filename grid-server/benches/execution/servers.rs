//! The servers that are measured, each on a database of its own in one PostgreSQL.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use futures::future::join_all;
use grid_scheduler_sql::testing::{Cpu, Postgres};
use grid_scheduler_sql::{Database, DatabaseOptions};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};

/// How many connections clients and bots have to each process.
const CONNECTIONS: usize = 10;
const START: Duration = Duration::from_secs(60);
const CAS: &str = "!cas {storage: *cas}, !bytestream {storage: *cas}";

/// One process of a server.
pub(crate) struct Process {
    child: Child,
    port: u16,
}

impl Process {
    /// Runs a command on a configuration that names the address `127.0.0.1:PORT`.
    async fn start(mut command: Command, folder: &TempDir, config: &str) -> Self {
        let port =
            TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("it").port();
        let path = folder.path().join(format!("{port}.yml"));
        std::fs::write(&path, config.replace("PORT", &port.to_string())).expect("a file");
        command.arg(path).current_dir(folder.path()).env("XDG_STATE_HOME", folder.path());
        let log = std::fs::File::create(folder.path().join(format!("{port}.log"))).expect("a file");
        command.stdout(log.try_clone().expect("a file")).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().expect("the server starts");
        let connected = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            ended = child.wait() => panic!("the server ended: {ended:?}; run it on {config}"),
            waited = tokio::time::timeout(START, connected) => waited.expect("the server answers"),
        }
        Self { child, port }
    }

    /// Connections to it.
    pub(crate) async fn connections(&self, number: usize) -> Vec<Channel> {
        let connect = |_| {
            let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", self.port));
            async { endpoint.expect("an address").connect().await.expect("a connection") }
        };
        join_all((0..number).map(connect)).await
    }

    fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// The memory that it has resident, in MiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
    }
}

/// A grid on a database: where clients call, where bots call, what both cost.
pub(crate) struct Grid {
    pub(crate) name: &'static str,
    pub(crate) clients: Vec<Channel>,
    pub(crate) bots: Vec<Channel>,
    pub(crate) cpu: Cpu,
    /// The database that its statements are counted in.
    pub(crate) database: Database,
    _processes: Vec<Process>,
    _folder: TempDir,
}

impl Grid {
    /// Clients call the first of the processes, bots the last.
    async fn new(
        name: &'static str,
        url: &str,
        postgres: &Postgres,
        processes: Vec<Process>,
        folder: TempDir,
    ) -> Self {
        let database = Database::open(url, DatabaseOptions::default()).await.expect("a database");
        let (first, last) = (&processes[0], &processes[processes.len() - 1]);
        Self {
            name,
            clients: first.connections(CONNECTIONS).await,
            bots: last.connections(CONNECTIONS).await,
            cpu: Cpu::of(processes.iter().map(Process::pid).chain([postgres.pid()])),
            database,
            _processes: processes,
            _folder: folder,
        }
    }

    /// Ours, of one process, or of one for clients and another for bots.
    pub(crate) async fn ours(name: &'static str, replicas: usize, url: &str, postgres: &Postgres) -> Self {
        let folder = folder();
        let config = format!(
            "server: [!channel {{address: '127.0.0.1:PORT', insecure-mode: yes}}]
connections: [!sql-connection &database {{connection-string: '{url}', automigrate: yes}}]
storages: [!disk-storage &cas {{path: cas}}]
schedulers: [!sql-scheduler &queue {{storage: *cas, sql: *database, fairness: turns}}]
instances: [{{name: '', services: [{CAS}, !execution {{scheduler: *queue}}]}}]
"
        );
        let mut processes = Vec::new();
        for _ in 0..replicas {
            processes.push(Process::start(serve(), &folder, &config).await);
        }
        Self::new(name, url, postgres, processes, folder).await
    }

    /// BuildGrid, where it is at hand: a process for clients and one for bots, for one process of Python uses one
    /// processor; its assigners and its polls as quick as they can be set, threads for every call.
    pub(crate) async fn buildgrid(url: &str, postgres: &Postgres) -> Option<Self> {
        let programs = PathBuf::from(std::env::var_os("GRID_BUILDGRID")?);
        let folder = folder();
        let mut migrate = Command::new(programs.join("bgd"));
        let migrated = migrate.args(["migrate", "apply", url]).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(migrated.status().await.expect("bgd").success(), "bgd migrate apply failed");
        let config = |assigners: &str, services: &str| {
            format!(
                "server: [!channel {{address: '127.0.0.1:PORT', insecure-mode: true}}]
connections: [!sql-connection &database {{connection-string: '{url}', pool-size: 20, max-overflow: 20}}]
storages: [!disk-storage &cas {{path: cas}}]
schedulers:
  - !sql-scheduler
    &queue
    storage: *cas
    sql: *database
    poll-interval: 0.1
    bot-poll-interval: 0.1
    proactive-fetch-to-capacity: true
    assigners: [{assigners}]
instances: [{{name: '', services: [{services}]}}]
thread-pool-size: 1500
"
            )
        };
        let clients = format!("{CAS}, !execution {{scheduler: *queue, endpoints: [execution, operations]}}");
        let assigner =
            "!priority-age-assigner {count: 2, interval: 0.05, jitter-factor: 0.05, failure-backoff: 0.5}";
        let start = || {
            let mut command = Command::new(programs.join("bgd"));
            command.args(["server", "start"]);
            command
        };
        let processes = vec![
            Process::start(start(), &folder, &config("", &clients)).await,
            Process::start(start(), &folder, &config(assigner, "!bots {scheduler: *queue}")).await,
        ];
        Some(Self::new("BuildGrid", url, postgres, processes, folder).await)
    }
}

/// Ours on SQLite: the one pod of a small grid.
pub(crate) async fn embedded() -> (Process, TempDir) {
    let folder = folder();
    let config = format!(
        "server: [!channel {{address: '127.0.0.1:PORT', insecure-mode: yes}}]
storages: [!disk-storage &cas {{path: cas}}]
schedulers: [!sql-scheduler &queue {{storage: *cas, fairness: turns}}]
instances: [{{name: '', services: [{CAS}, !execution {{scheduler: *queue}}]}}]
maximum-concurrent-rpcs: 20000
"
    );
    let process = Process::start(serve(), &folder, &config).await;
    (process, folder)
}

fn serve() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grid-server"));
    command.args(["serve", "--admin", "127.0.0.1:0"]).env_remove("RUST_LOG");
    command
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}
