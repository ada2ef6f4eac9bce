//! `conformance`: runs the conformance suite against bazel-remote and BuildGrid, and writes what it finds into the document.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::{bench, buildgrid, shell, workspace};

/// The instances of the suite, as BuildGrid is to have them.
const BUILDGRID: &str = "
storages:
  - !lru-storage &cas {size: 2G}
caches:
  - !lru-action-cache &results {storage: *cas, max-cached-refs: 1000, allow-updates: true}
  - !lru-action-cache &closed {storage: *cas, max-cached-refs: 1000, allow-updates: false}
instances:
  - name: main
    services: &all
      - !cas {storage: *cas}
      - !bytestream {storage: *cas}
      - !action-cache {cache: *results}
  - name: tight
    services: *all
  - name: ''
    services: *all
  - name: read/only
    services:
      - !cas {storage: *cas, read-only: true}
      - !bytestream {storage: *cas, read-only: true}
      - !action-cache {cache: *closed}
";
/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);

/// Looks at the other servers, and writes the document.
///
/// # Errors
/// Where one can't be made or started, or the suite can't be run.
pub(crate) fn run() -> Result<()> {
    let folder = workspace::cache()?.join("conformance");
    std::fs::remove_dir_all(&folder).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    std::fs::create_dir_all(folder.join("blobs"))?;
    let buildgrid = start_buildgrid(&folder)?;
    let bazel_remote = start_bazel_remote(&folder)?;
    let peers = format!("BuildGrid={},bazel-remote={}", buildgrid.address, bazel_remote.address);
    let test = ["test", "--locked", "-p", "grid-rpc", "--test", "conformance", "--"];
    let look = [&test[..], &["rules_on_other_servers", "--ignored", "--nocapture"]].concat();
    shell::step("the suite on other servers", || {
        shell::run(shell::command("cargo", &look)?.env("GRID_PEERS", &peers))
    })?;
    let write = [&test[..], &["documentation"]].concat();
    shell::run(shell::command("cargo", &write)?.env("GRID_BLESS", "1"))
}

/// A server that is not ours, until this is dropped.
struct Peer {
    child: Child,
    address: SocketAddr,
}

impl Peer {
    fn start(mut command: Command, address: SocketAddr, log: &Path) -> Result<Self> {
        let log = std::fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("can't start {command:?}"))?;
        let peer = Self { child, address };
        let end = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            ensure!(Instant::now() < end, "{command:?} does not answer at {address}");
            #[expect(
                clippy::disallowed_methods,
                reason = "a program that starts tells nobody when it listens"
            )]
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn start_buildgrid(folder: &Path) -> Result<Peer> {
    let address = free_address()?;
    let config = format!("server:\n  - !channel {{address: '{address}', insecure-mode: true}}\n{BUILDGRID}");
    let path = folder.join("buildgrid.yml");
    std::fs::write(&path, config)?;
    let mut command = Command::new(buildgrid::installed()?.join("bgd"));
    command.args(["server", "start"]).arg(&path).current_dir(folder);
    Peer::start(command, address, &folder.join("buildgrid.log"))
}

fn start_bazel_remote(folder: &Path) -> Result<Peer> {
    let (address, http) = (free_address()?, free_address()?);
    let mut command = Command::new(bench::bazel_remote()?);
    command.args(["--max_size", "8", "--dir"]).arg(folder.join("blobs"));
    command.arg(format!("--grpc_address={address}")).arg(format!("--http_address={http}"));
    Peer::start(command, address, &folder.join("bazel-remote.log"))
}
