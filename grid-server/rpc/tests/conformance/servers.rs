//! Servers that are not ours. `cargo xtask conformance` makes them and tells where their programs are: BuildGrid's in
//! `GRID_BUILDGRID`, bazel-remote in `GRID_BAZEL_REMOTE`.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use grid_scheduler_sql::testing::postgres_url;
use tempfile::TempDir;

/// The suite's instances, as BuildGrid's configuration has them.
const BUILDGRID: &str = "
storages:
  - !lru-storage &cas {size: 2G}
caches:
  - !lru-action-cache &results {storage: *cas, max-cached-refs: 1000, allow-updates: true}
  - !lru-action-cache &closed {storage: *cas, max-cached-refs: 1000, allow-updates: false}
schedulers:
  - !sql-scheduler
    &queue
    storage: *cas
    action-cache: *results
    sql: *database
    poll-interval: 0.1
    bot-poll-interval: 0.1
    assigners: [!priority-age-assigner {count: 1, interval: 0.05}]
instances:
  - name: main
    services: &all
      - !cas {storage: *cas}
      - !bytestream {storage: *cas}
      - !action-cache {cache: *results}
      - !execution {scheduler: *queue, endpoints: [execution, operations, bots]}
  - name: tight
    services: *all
  - name: ''
    services:
      - !cas {storage: *cas}
      - !bytestream {storage: *cas}
      - !action-cache {cache: *results}
  - name: read/only
    services:
      - !cas {storage: *cas, read-only: true}
      - !bytestream {storage: *cas, read-only: true}
      - !action-cache {cache: *closed}
thread-pool-size: 100
";
/// How long one may take to start.
const START: Duration = Duration::from_secs(60);

/// A server, until this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    _folder: TempDir,
}

impl Server {
    /// BuildGrid, on a PostgreSQL of its own, for its scheduler needs one.
    pub(crate) fn buildgrid() -> Self {
        let program = program("GRID_BUILDGRID").join("bgd");
        let (folder, address, url) = (tempfile::tempdir().unwrap(), free_address(), postgres_url());
        let config = format!(
            "server: [!channel {{address: '{address}', insecure-mode: true}}]
connections: [!sql-connection &database {{connection-string: '{url}'}}]{BUILDGRID}"
        );
        let path = folder.path().join("server.yml");
        std::fs::write(&path, config).unwrap();
        let mut migrate = quiet(&program, &folder);
        assert!(migrate.args(["migrate", "apply", &url]).status().unwrap().success(), "bgd migrate");
        let mut command = quiet(&program, &folder);
        command.args(["server", "start"]).arg(path);
        Self::start(command, address, folder)
    }

    /// bazel-remote, with both digest functions that it has.
    pub(crate) fn bazel_remote() -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
        let mut command = quiet(&program("GRID_BAZEL_REMOTE"), &folder);
        command.args(["--max_size", "8", "--dir", "blobs"]).arg(format!("--grpc_address={address}"));
        command.arg(format!("--http_address={}", free_address()));
        Self::start(command, address, folder)
    }

    fn start(mut command: Command, address: String, folder: TempDir) -> Self {
        let server = Self { child: command.spawn().unwrap(), address, _folder: folder };
        let end = Instant::now() + START;
        while TcpStream::connect(&server.address).is_err() {
            assert!(Instant::now() < end, "{command:?} does not answer at {}", server.address);
            #[expect(
                clippy::disallowed_methods,
                reason = "a program that starts tells nobody when it listens"
            )]
            std::thread::sleep(Duration::from_millis(100));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(variable: &str) -> PathBuf {
    PathBuf::from(std::env::var_os(variable).expect("`cargo xtask conformance` runs this"))
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn quiet(program: &Path, folder: &TempDir) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
