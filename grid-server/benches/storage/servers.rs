//! The servers that are measured: ours, over whatever storage, and its peers. The benches of storage and of services share it.
#![allow(dead_code, reason = "neither bench asks a server for all that it can tell")]

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};

/// A server that runs, for as long as this lives.
pub(crate) struct Server {
    child: Child,
    channel: Channel,
    address: SocketAddr,
    _folder: TempDir,
}

impl Server {
    async fn start(mut command: Command, port: u16, folder: TempDir) -> Option<Self> {
        command.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().expect("the server starts");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let connected = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), connected).await.expect("the server answers");
        let channel = endpoint(address).connect().await.expect("a connection");
        Some(Self { child, channel, address, _folder: folder })
    }

    /// A connection of its own for many slow clients: one that reads nothing does not use up the window of the others.
    pub(crate) async fn connect(&self) -> Channel {
        let endpoint = endpoint(self.address).initial_stream_window_size(64_u32 << 10);
        endpoint.initial_connection_window_size(Some(64_u32 << 20)).connect().await.expect("a connection")
    }

    /// A connection to it.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The processor time that it has had.
    pub(crate) fn processor_time(&self) -> Duration {
        processor_time(&self.child.id().expect("it runs").to_string())
    }

    /// The most memory that it had, in MiB.
    pub(crate) fn most_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory that it has, in MiB.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    fn status(&self, field: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
    }

    fn proc(&self, file: &str) -> String {
        let id = self.child.id().expect("it runs");
        std::fs::read_to_string(format!("/proc/{id}/{file}")).expect("it runs")
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).expect("an address")
}

/// The processor time of a process, by its number or `self`.
pub(crate) fn processor_time(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    // After the name, which may hold spaces: the 12th and 13th field are user and system time in hundredths.
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let fields = fields.split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.map(|ticks| ticks.parse::<u64>().expect("a number") * 10).sum())
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("an address").port()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// What ours and BuildGrid serve over the storage `cas`.
const SERVED: &str = "caches: [!lru-action-cache &results {storage: *cas, max-cached-refs: 100000}]\n\
    instances: [{name: '', services: [!cas {storage: *cas}, !bytestream {storage: *cas}, \
    !action-cache {cache: *results}]}]\n";

/// Ours, over this storage; `files` lie beside its configuration, of which `more` is a part.
pub(crate) async fn ours(storage: &str, more: &str, files: &[(&str, &str)]) -> Option<Server> {
    let (folder, port) = (folder(), free_port().await);
    let config = format!(
        "server: [!channel {{address: '127.0.0.1:{port}', insecure-mode: yes}}]\nmaximum-concurrent-rpcs: 3000\n\
         {more}\nstorages: [{storage}]\n{SERVED}"
    );
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).expect("a file");
    }
    let path = folder.path().join("server.yml");
    std::fs::write(&path, config).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_grid-server"));
    command.args(["serve", "--admin", "127.0.0.1:0"]).arg(&path).env("XDG_STATE_HOME", folder.path());
    Server::start(command, port, folder).await
}

/// bazel-remote, where it is at hand.
pub(crate) async fn bazel_remote() -> Option<Server> {
    let program = std::env::var_os("GRID_BAZEL_REMOTE")?;
    let (folder, port, http) = (folder(), free_port().await, free_port().await);
    let mut command = Command::new(program);
    command.args(["--max_size", "8", "--storage_mode", "uncompressed"]).arg("--dir").arg(folder.path());
    command.arg(format!("--grpc_address=127.0.0.1:{port}")).arg(format!("--http_address=127.0.0.1:{http}"));
    Server::start(command, port, folder).await
}

/// How many calls BuildGrid takes at once; it refuses what is above, and its own choice is five for each processor.
const THREADS: u32 = 64;

/// BuildGrid, where it is at hand.
pub(crate) async fn buildgrid() -> Option<Server> {
    let programs = std::path::PathBuf::from(std::env::var_os("GRID_BUILDGRID")?);
    let (folder, port) = (folder(), free_port().await);
    let config = format!(
        "server: [!channel {{address: '127.0.0.1:{port}', insecure-mode: true}}]\nthread-pool-size: {THREADS}\n\
         storages: [!lru-storage &cas {{size: 4G}}]\n{SERVED}"
    );
    let path = folder.path().join("server.yml");
    std::fs::write(&path, config).expect("a file");
    let mut command = Command::new(programs.join("bgd"));
    command.args(["server", "start"]).arg(&path);
    Server::start(command, port, folder).await
}
