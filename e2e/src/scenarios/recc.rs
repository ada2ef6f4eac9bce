//! recc: compiles and links a real C library on the grid, and shares its results where nothing runs remotely.

use std::path::Path;

use anyhow::{Result, ensure};

use super::on_cluster::TestGrid;
use crate::clients::Clients;
use crate::gridcluster::Cluster;
use crate::local::{Image, Server, Worker};
use crate::process::Output;
use crate::{environment, grid, project};

/// The steps of the project: a compilation for each source, and the link.
const STEPS: usize = 34;
const PROGRAM_PRINTS: &str = "Lua 5.4 338350";
/// What recc says of a step that runs on the grid, and of one that need not.
const RAN: &str = "Executing action remotely";
const HIT: &str = "Action Cache hit";

/// Every step of a clean build runs on the grid, none of a second one; a compiler's error comes back as it was
/// printed; and what a machine has built in cache-only mode, another takes from there, without a worker.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn build() -> Result<()> {
    let cluster = Cluster::command_only();
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let server = Server::start(dir.path(), "bare.yml")?;
    let worker = Worker::start(dir.path(), &server, &Image::Clients(&cluster), &[])?;
    let remote = machine(&cluster, &dir.path().join("remote"), &server)?;

    let first = make(&remote, &["make", "-j4", "check"])?;
    expect_steps(&first, STEPS, 0)?;
    remote.succeed("/src", &["make", "clean"])?;
    let second = make(&remote, &["make", "-j4", "check"])?;
    expect_steps(&second, 0, STEPS)?;
    wrong_source(&remote, dir.path())?;
    worker.terminate()?;

    // Another level of optimisation is another action: what ran remotely above does not count here.
    let words = ["make", "-j4", "LEVEL=-O2", "check"];
    for (name, hits) in [("writer", 0), ("reader", STEPS)] {
        let place = machine(&cluster, &dir.path().join(name), &server)?;
        let place = place.env("RECC_CACHE_ONLY", "1").env("RECC_CACHE_UPLOAD_LOCAL_BUILD", "1");
        expect_steps(&make(&place, &words)?, 0, hits)?;
    }
    server.terminate()
}

/// Through the TLS ingress of a cluster, with nothing but the file that the operator wrote: every step of a clean build
/// runs on the pool, and none of a second one.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn through_ingress(test: &TestGrid<'_>) -> Result<()> {
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let folder = dir.path().join("project");
    project::lay_out_recc(&folder)?;
    let place = Clients::new(test.cluster, &dir.path().join("state"))?
        .bind(&folder, "/src")
        .env("RECC_CONFIG_DIRECTORY", grid::CLIENT_FILES)
        .env("RECC_PROJECT_ROOT", "/src")
        .env("RECC_LINK", "1")
        .env("RECC_LOG_LEVEL", "info")
        .env("RECC_REMOTE_PLATFORM_toolchain", "gcc12")
        .env("RECC_REMOTE_ENV_PATH", "/usr/bin");
    let place = test.reached_from(place, "demo")?;
    expect_steps(&make(&place, &["make", "-j4", "check"])?, STEPS, 0)?;
    place.succeed("/src", &["make", "clean"])?;
    expect_steps(&make(&place, &["make", "-j4", "check"])?, 0, STEPS)
}

fn expect_steps(built: &Output, ran: usize, hits: usize) -> Result<()> {
    ensure!(built.count(RAN) == ran, "{} steps ran, not {ran}:\n{}", built.count(RAN), built.text);
    ensure!(built.count(HIT) == hits, "{} hits, not {hits}:\n{}", built.count(HIT), built.text);
    Ok(())
}

/// Makes and runs the program.
fn make(place: &Clients<'_>, words: &[&str]) -> Result<Output> {
    let output = place.succeed("/src", words)?;
    place.succeed("/src", &["./check"])?.expect(PROGRAM_PRINTS)?;
    Ok(output)
}

/// An error of the compiler fails the build, with the compiler's words and its status.
fn wrong_source(place: &Clients<'_>, dir: &Path) -> Result<()> {
    std::fs::write(dir.join("remote/project/wrong.c"), "int main(void) { return nowhere; }\n")?;
    let failed = place.fail("/src", &["recc", "/usr/bin/gcc", "-c", "wrong.c", "-o", "wrong.o"])?;
    failed.expect("finished with exit code 1")?;
    failed.expect("wrong.c:1:25: error:")?;
    failed.expect("nowhere")?;
    ensure!(!dir.join("remote/project/wrong.o").exists(), "a failed compilation left an object");
    Ok(())
}

/// A developer's machine with the project in `/src`.
fn machine<'a>(cluster: &'a Cluster, dir: &Path, server: &Server) -> Result<Clients<'a>> {
    let folder = dir.join("project");
    project::lay_out_recc(&folder)?;
    Ok(Clients::new(cluster, &dir.join("state"))?
        .bind(&folder, "/src")
        .env("RECC_SERVER", &server.address("http"))
        .env("RECC_PROJECT_ROOT", "/src")
        .env("RECC_LINK", "1")
        .env("RECC_LOG_LEVEL", "info")
        .env("RECC_REMOTE_PLATFORM_OSFamily", "linux")
        .env("RECC_REMOTE_ENV_PATH", "/usr/bin"))
}
