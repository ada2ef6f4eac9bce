//! The Remote Asset API with its clients: BuildStream's artifacts and sources, and Bazel's downloads.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::clients::Clients;
use crate::environment;
use crate::gridcluster::Cluster;
use crate::process::{self, Background};

const START: Duration = Duration::from_secs(60);

/// An artifact that was built on one machine is pulled on another, from a server that was restarted between; so is its
/// source.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn buildstream() -> Result<()> {
    let cluster = Cluster::command_only();
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let project = environment::root().join("e2e/projects/assets/buildstream");
    let (server, address) = start(dir.path())?;
    let bst = |machine: &str, address: &str, words: &[&str]| -> Result<String> {
        let state = dir.path().join(machine);
        let settings = state.join("buildstream.conf");
        std::fs::create_dir_all(&state)?;
        let servers = format!("  servers:\n  - url: {address}\n    push: true\n");
        std::fs::write(&settings, format!("artifacts:\n{servers}source-caches:\n{servers}"))?;
        let clients = Clients::new(&cluster, &state)?
            .bind(&copy(&project, &state)?, "/src")
            .bind(&settings, "/etc/buildstream.conf");
        let all = [&["bst", "--no-colors", "--config", "/etc/buildstream.conf"], words].concat();
        let output = process::capture(&mut clients.command("/src", &all))?;
        anyhow::ensure!(output.success, "bst {words:?} on machine {machine}:\n{}", output.text);
        Ok(output.text)
    };
    let built = bst("first", &address, &["build", "hello.bst"])?;
    expect(&built, "Pushed artifact")?;
    expect(&built, "Pushed source")?;
    expect(&bst("first", &address, &["artifact", "push", "hello.bst"])?, "already has artifact")?;
    anyhow::ensure!(server.terminate()? == Some(0), "grid-server did not end with 0 on SIGTERM");

    let (server, address) = start(dir.path())?;
    expect(&bst("second", &address, &["artifact", "pull", "hello.bst"])?, "Pulled artifact")?;
    bst("second", &address, &["artifact", "checkout", "hello.bst", "--directory", "/src/out"])?;
    let pulled = std::fs::read_to_string(dir.path().join("second/project/out/hello.txt"))?;
    anyhow::ensure!(pulled == "an artifact\n", "the artifact holds {pulled:?}");
    expect(&bst("third", &address, &["source", "fetch", "hello.bst"])?, "Pulled source")?;
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
    let (_server, address) = start(dir.path())?;
    let address = address.replace("http://", "grpc://");
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
        let output = process::capture(&mut clients.command("/src", &words))?;
        anyhow::ensure!(output.success, "bazel on machine {machine}:\n{}", output.text);
        anyhow::ensure!(web.asked.load(Ordering::SeqCst) == 1, "the web server was asked more than once");
    }
    Ok(())
}

fn expect(text: &str, part: &str) -> Result<()> {
    anyhow::ensure!(text.contains(part), "{part:?} was not said:\n{text}");
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

/// Starts the server in `dir`; gives its address.
fn start(dir: &Path) -> Result<(Background, String)> {
    let mut command = Command::new(environment::binaries()?.join("grid-server"));
    command
        .args(["serve", "--admin", "127.0.0.1:0"])
        .arg(environment::root().join("e2e/projects/assets/server.yml"))
        .current_dir(dir)
        .env("XDG_STATE_HOME", dir.join("state-home"))
        .env("XDG_CONFIG_HOME", dir.join("config-home"));
    let mut server = Background::start("grid-server", &mut command, &dir.join("server.log"))?;
    let line = server.wait_for("serving on ", START)?;
    server.wait_for("readiness: ready", START)?;
    let address = line.split_once("serving on ").map(|(_, address)| address.trim().to_owned());
    Ok((server, address.context("the server does not say where it serves")?))
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
