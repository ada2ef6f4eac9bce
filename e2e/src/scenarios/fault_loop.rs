//! Bazel builds while workers and runners are killed at random.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rand::{RngExt, SeedableRng};

use super::builds::DOWNLOAD_ALL;
use crate::bazel::Workspace;
use crate::clients::Clients;
use crate::gridcluster::Cluster;
use crate::local::{Image, Server, Worker};
use crate::project::COMPILE_ACTIONS;
use crate::{environment, reference, toolchain};

/// How many minutes it lasts.
const MINUTES: &str = "GRID_FAULT_LOOP_MINUTES";
const MINUTES_BY_DEFAULT: u64 = 30;
/// The two workers, either of which can take what the other loses.
const WORKERS: [&str; 2] = ["first", "second"];
/// Milliseconds between one kill and the next.
const PAUSES: std::ops::Range<u64> = 1_000..12_000;

/// Builds that take nothing from the cache succeed, one after the other, without a flag for it, while one of two workers
/// or of their two runners is killed (signal 9) every few seconds; every action runs on them, and each build's outputs
/// are a local build's.
///
/// # Errors
/// Where one of that is not so; the seed of the kills is printed.
pub(crate) fn builds() -> Result<()> {
    let minutes = match std::env::var(MINUTES) {
        Ok(text) => text.parse().with_context(|| format!("{MINUTES}={text}: a number is needed"))?,
        Err(_) => MINUTES_BY_DEFAULT,
    };
    let end = Instant::now() + Duration::from_secs(minutes * 60);
    let cluster = Cluster::command_only();
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let expected = reference::hashes(&cluster)?;
    let server = Server::start(dir.path(), "bare.yml")?;
    let root = toolchain::root("toolchain-gcc12")?;
    let mut workers = Vec::new();
    for name in WORKERS {
        let dir = dir.path().join(name);
        std::fs::create_dir_all(&dir)?;
        let properties = ["OSFamily=linux", "ISA=x86-64", "toolchain=gcc12"];
        workers.push(Worker::start(&dir, &server, &Image::Toolchain(&root), &properties)?);
    }
    let mut workspace = Workspace::new(dir.path())?;
    let clients = workspace.clients(&cluster)?;
    let remote = format!("--remote_executor={}", server.address("grpc"));
    let (ended, until) = mpsc::channel();
    let (built, killed) = std::thread::scope(|scope| {
        let killer = scope.spawn(move || kill(workers, &until));
        let built = build(&mut workspace, &clients, &remote, &expected, || {
            Instant::now() < end && !killer.is_finished()
        });
        drop(ended);
        (built, killer.join().map_err(|_| anyhow!("the thread that kills panicked")))
    });
    let (workers, kills) = killed??;
    println!("    {} builds, {kills} kills", built?);
    for worker in workers {
        worker.terminate()?;
    }
    server.terminate()
}

/// Builds from nothing, again and again, and compares what was made; gives how often.
fn build(
    workspace: &mut Workspace,
    clients: &Clients<'_>,
    remote: &str,
    expected: &reference::Hashes,
    go_on: impl Fn() -> bool,
) -> Result<usize> {
    let flags = [remote.to_owned(), DOWNLOAD_ALL.to_owned(), "--noremote_accept_cached".to_owned()];
    let mut count = 0;
    while go_on() {
        workspace.clean()?;
        count += 1;
        let summary = workspace.build(clients, &[], &flags)?;
        println!("    build {count}: {:?} in {:.1} s", summary.processes, summary.took.as_secs_f64());
        summary.expect_remote(COMPILE_ACTIONS)?;
        reference::expect_same(expected, &reference::outputs(workspace)?)?;
    }
    workspace.run_outputs(clients)?;
    Ok(count)
}

/// Kills one process after the other, and starts each again as its pod would, until `until` is closed; gives the
/// workers, all of which run, and how many kills there were.
fn kill(mut workers: Vec<Worker>, until: &Receiver<()>) -> Result<(Vec<Worker>, usize)> {
    let seed = rand::rng().random();
    println!("    the kills' seed is {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut kills = 0;
    while until.recv_timeout(Duration::from_millis(random.random_range(PAUSES)))
        == Err(RecvTimeoutError::Timeout)
    {
        let victim = random.random_range(0..workers.len());
        if random.random() {
            workers[victim].restart_worker()?;
        } else {
            workers[victim].restart_runner()?;
        }
        kills += 1;
    }
    Ok((workers, kills))
}
