//! An action that no pool can run: its user reads why, at once by `grid why` and in Bazel when the grace ends.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{grpcurl, variants};
use crate::clients::Clients;
use crate::gridcluster::Cluster;
use crate::local::Server;
use crate::process::{self, Background};
use crate::{bazel, environment};

/// The grace of `unplaceable.yml` and what a build takes.
const LIMIT: Duration = Duration::from_secs(120);
const POOL: &str = "builds/linux";

/// A pool for another processor is declared, as an operator does; a build for SPARC is explained while it waits, and ends
/// with the reason.
///
/// # Errors
/// Where that is not so.
pub(crate) fn sparc() -> Result<()> {
    let cluster = Cluster::command_only();
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let server = Server::start(dir.path(), "variants/unplaceable.yml")?;
    declare(&server)?;
    let project = bazel::lay_out("variants", dir.path())?;
    let place = Clients::new(&cluster, &dir.path().join("state"))?.bind(&project, "/src");
    let remote = format!("--remote_executor={}", server.address("grpc"));
    let words =
        [&["bazel", "--output_base=/tmp/sparc", "build", &remote, "//:sparc"], variants::ALWAYS].concat();
    let mut build =
        Background::start("bazel", &mut place.command("/src", &words), &dir.path().join("bazel.log"))?;

    let (operation, began) = waiting(&server)?;
    let why = grid(&server, &["why", &operation])?;
    let took = began.elapsed();
    expect_reason(&why)?;
    println!("    why: told {} ms after the operation was first seen", took.as_millis());
    let line = build.wait_for("ISA=sparc", LIMIT).context("Bazel's user did not read the reason")?;
    expect_reason(&line)?;
    build.wait_for("Build did NOT complete successfully", LIMIT)?;
    server.terminate()
}

fn expect_reason(text: &str) -> Result<()> {
    let all = ["ISA=sparc", "x86-64", POOL].iter().all(|part| text.contains(part));
    ensure!(all, "the property that lacks, what is on offer or the nearest pool is not named: {text}");
    Ok(())
}

/// Declares the one pool.
fn declare(server: &Server) -> Result<()> {
    let pool = format!(
        r#"{{"owner": "builds/demo", "revision": 1, "pools": [{{"name": "{POOL}", "grid": "builds/demo", "properties": [
        {{"key": "OSFamily", "value": "linux"}}, {{"key": "ISA", "value": "x86-64"}}], "max_workers": 4, "concurrency": 2}}]}}"#
    );
    let target = server.address("x");
    let target = target.trim_start_matches("x://");
    let words = ["-d", &pool, "grid.fleet.v1alpha1.Fleet/DeclarePools"];
    grpcurl::run(&grpcurl::installed()?, target, &words).map(drop)
}

/// The operation that waits, and when it was first seen.
fn waiting(server: &Server) -> Result<(String, Instant)> {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        let list = grid(server, &["operation", "list", "--json"])?;
        let name = list.lines().find_map(|line| {
            let found: Value = serde_json::from_str(line).ok()?;
            let operation = found.pointer("/operations/0").unwrap_or(&found);
            operation["name"].as_str().map(str::to_owned)
        });
        if let Some(name) = name {
            return Ok((name, Instant::now()));
        }
    }
    anyhow::bail!("Bazel's action did not come within {} s", LIMIT.as_secs())
}

/// What our command line says.
fn grid(server: &Server, words: &[&str]) -> Result<String> {
    let mut command = Command::new(environment::binaries()?.join("grid"));
    process::output(command.args(words).args(["--remote", &server.address("http")]))
}
