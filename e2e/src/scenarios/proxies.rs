//! Streams through Debian's nginx, and through the cluster's Traefik, that say nothing for a quarter of an hour.

mod streams;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use self::streams::Lengths;
use super::on_cluster::TestGrid;
use crate::local::Server;
use crate::process::Background;
use crate::remote::Remote;
use crate::{actions, environment, grid};

/// An Execute whose action takes for ever, an upload of 4 GiB, a build event stream and a log that is followed, all at once and
/// each for longer than nginx by itself would let it live.
///
/// # Errors
/// Where one of them is cut.
pub(crate) fn nginx() -> Result<()> {
    let lengths = Lengths::of_environment()?;
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let server = Server::start(dir.path(), "on-disk.yml")?;
    let proxy = free_address()?;
    let _nginx = start(dir.path(), &proxy, server.address("x").trim_start_matches("x://"))?;
    let remote = Remote::plain(&proxy)?;
    // There are no workers: it waits in the queue.
    let action = actions::store(&remote, "gcc12", "true")?;
    lengths.outlive(&remote, action)?;
    server.terminate()
}

/// The same through the TLS ingress, with an action that runs.
///
/// # Errors
/// Where one of them is cut.
pub(crate) fn traefik() -> Result<()> {
    let lengths = Lengths::of_environment()?;
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, "proxy-test", &["postgres.yaml"], "postgres.yaml")?;
    let remote = test.connect()?;
    let action = actions::store(&remote, "gcc12", "sleep 3000")?;
    lengths.outlive(&remote, action)?;
    test.delete()
}

fn free_address() -> Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn start(dir: &Path, proxy: &str, server: &str) -> Result<Background> {
    let template = environment::root().join("e2e/projects/nginx/nginx.conf");
    let text = std::fs::read_to_string(&template)?;
    let folder = dir.to_str().context("the cache's path is not UTF-8")?;
    let text = text.replace("FOLDER", folder).replace("PROXY", proxy).replace("SERVER", server);
    let path = dir.join("nginx.conf");
    std::fs::write(&path, text)?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-e").arg("stderr").arg("-c").arg(&path).arg("-p").arg(dir);
    Background::start("nginx", &mut command, &dir.join("nginx.log"))
}
