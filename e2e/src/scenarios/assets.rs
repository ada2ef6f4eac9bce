//! The Remote Asset API with its clients: BuildStream's artifacts and sources, and Bazel's downloads.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;

use crate::clients::Clients;
use crate::environment;
use crate::gridcluster::Cluster;
use crate::local::Server;
use crate::process::{self, Output};

const CONFIGURATION: &str = "assets/server.yml";

/// An artifact that was built on one machine is pulled on another, from a server that was restarted between; so is its
/// source.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn buildstream() -> Result<()> {
    let cluster = Cluster::command_only();
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let project = environment::root().join("e2e/projects/assets/buildstream");
    let server = Server::start(dir.path(), CONFIGURATION)?;
    let address = server.address("http");
    let bst = |machine: &str, address: &str, words: &[&str]| -> Result<Output> {
        let state = dir.path().join(machine);
        let settings = state.join("buildstream.conf");
        std::fs::create_dir_all(&state)?;
        let servers = format!("  servers:\n  - url: {address}\n    push: true\n");
        std::fs::write(&settings, format!("artifacts:\n{servers}source-caches:\n{servers}"))?;
        let clients = Clients::new(&cluster, &state)?
            .bind(&copy(&project, &state)?, "/src")
            .bind(&settings, "/etc/buildstream.conf");
        let all = [&["bst", "--no-colors", "--config", "/etc/buildstream.conf"], words].concat();
        clients.succeed("/src", &all)
    };
    let built = bst("first", &address, &["build", "hello.bst"])?;
    built.expect("Pushed artifact")?;
    built.expect("Pushed source")?;
    bst("first", &address, &["artifact", "push", "hello.bst"])?.expect("already has artifact")?;
    server.terminate()?;

    let server = Server::start(dir.path(), CONFIGURATION)?;
    let address = server.address("http");
    bst("second", &address, &["artifact", "pull", "hello.bst"])?.expect("Pulled artifact")?;
    bst("second", &address, &["artifact", "checkout", "hello.bst", "--directory", "/src/out"])?;
    let pulled = std::fs::read_to_string(dir.path().join("second/project/out/hello.txt"))?;
    anyhow::ensure!(pulled == "an artifact\n", "the artifact holds {pulled:?}");
    bst("third", &address, &["source", "fetch", "hello.bst"])?.expect("Pulled source")?;
    drop(server);
    Ok(())
}

/// Bazel has the server download what it needs, once: with the web server gone, a clean machine still gets it.
///
/// # Errors
/// Where that is not so.
pub(crate) fn downloader() -> Result<()> {
    const CONTENT: &[u8] = b"what a web server has\n";
    /// SHA-256 of the content.
    const HASH: &str = "62bb280f5b5edd1d19eebab7485a1cf15c2ebdf5532915069fe5bcebb5d2d0b9";
    let cluster = Cluster::command_only();
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let server = Server::start(dir.path(), CONFIGURATION)?;
    let address = server.address("grpc");
    let web = WebServer::start(CONTENT)?;
    for machine in ["first", "second"] {
        let state = dir.path().join(machine);
        let project = copy(&environment::root().join("e2e/projects/assets/bazel"), &state)?;
        let rule = "load(\"@bazel_tools//tools/build_defs/repo:http.bzl\", \"http_file\")\n";
        let url = format!("http://localhost:{}/file.txt", web.port);
        let file = format!("http_file(name = \"remote\", urls = [\"{url}\"], sha256 = \"{HASH}\")\n");
        std::fs::write(project.join("WORKSPACE"), format!("{rule}{file}"))?;
        let clients = Clients::new(&cluster, &state)?.bind(&project, "/src");
        let (cache, downloader) =
            (format!("--remote_cache={address}"), format!("--experimental_remote_downloader={address}"));
        let words =
            ["bazel", "--output_base=/tmp/ob", "build", "--noshow_progress", &cache, &downloader, "//:copy"];
        clients.succeed("/src", &words)?;
        anyhow::ensure!(web.asked.load(Ordering::SeqCst) == 1, "the web server was asked more than once");
    }
    Ok(())
}

/// A machine's own copy of a project.
fn copy(project: &Path, state: &Path) -> Result<std::path::PathBuf> {
    let to = state.join("project");
    if !to.is_dir() {
        std::fs::create_dir_all(state)?;
        process::run(Command::new("cp").arg("-r").arg(project).arg(&to))?;
    }
    Ok(to)
}

/// A web server with one file, which counts how often it is asked.
struct WebServer {
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl WebServer {
    fn start(content: &'static [u8]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for mut connection in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let mut request = [0; 4096];
                let _ = connection.read(&mut request);
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    content.len()
                );
                let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(content));
            }
        });
        Ok(Self { port, asked })
    }
}
