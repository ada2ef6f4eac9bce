//! grid-worker beside buildbox-worker with buildbox-casd: the same actions on the same server, one after the other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use grid_proto::reapi::{Command, Digest};

use super::buildbox;
use crate::bazel::Workspace;
use crate::gridcluster::Cluster;
use crate::local::{Image, Server, Worker};
use crate::project::COMPILE_ACTIONS;
use crate::reapi::{Remote, Tree, Work};
use crate::{attacks, environment, toolchain};

/// What both offer.
const PROPERTIES: [&str; 3] = ["OSFamily=linux", "ISA=x86-64", "toolchain=gcc12"];
/// Clients at a time: enough for the two actions that each worker runs at once.
const CLIENTS: usize = 4;
const SMALL: usize = 300;
const LARGE: usize = 40;
/// The files of a large input root.
const FILES: usize = 2_000;

/// What was measured of one of them.
struct Measured {
    name: &'static str,
    small: f64,
    large: f64,
    build: Duration,
}

/// Prints how many actions a second each does, and how long a Bazel build takes on each.
///
/// # Errors
/// Where an action or a build fails.
pub(crate) fn measure() -> Result<()> {
    let cluster = Cluster::command_only();
    let ours = on("grid-worker", &cluster)?;
    let theirs = on("buildbox-worker", &cluster)?;
    println!("| two actions at once, a server without a cluster | {} | {} | ratio |", ours.name, theirs.name);
    println!("|---|---|---|---|");
    let row = |what: &str, ours: f64, theirs: f64| {
        println!("| {what} | {ours:.1} | {theirs:.1} | {:.2} |", ours / theirs);
    };
    row("small actions a second", ours.small, theirs.small);
    row(&format!("actions over {FILES} warm files a second"), ours.large, theirs.large);
    let (mine, other) = (ours.build.as_secs_f64(), theirs.build.as_secs_f64());
    row(&format!("Bazel build of {COMPILE_ACTIONS} compilations, seconds"), mine, other);
    Ok(())
}

/// Starts a server and one of the two workers, and measures it.
fn on(name: &'static str, cluster: &Cluster) -> Result<Measured> {
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let server = Server::start(dir.path(), "bare.yml")?;
    // Both see the same root file system, and both are root in it; both reach the compiler by the same wrapper.
    let (root, http) = (toolchain::root("toolchain-gcc12")?, server.address("http"));
    let (ours, theirs) = if name == "grid-worker" {
        let image = Image::Compiler(cluster, &root);
        (Some(Worker::start(dir.path(), &server, &image, &PROPERTIES)?), None)
    } else {
        (None, Some(buildbox::compiling_bot(cluster, dir.path(), &root, &http, &PROPERTIES)?))
    };
    let remote = Remote::plain(&server.address("http"))?;
    let program = attacks::program(dir.path())?;
    let small = Tree::default().program("attack", program);
    let large =
        (0..FILES).fold(small.clone(), |tree, n| tree.file(&format!("d{}/f{n}", n % 20), n.to_string()));
    rate(&remote, &small, "warm", 20)?;
    let small = rate(&remote, &small, "small", SMALL)?;
    rate(&remote, &large, "cold", 4)?;
    let large = rate(&remote, &large, "large", LARGE)?;
    let workspace = Workspace::new(dir.path())?;
    let flag = format!("--remote_executor={}", server.address("grpc"));
    let summary = workspace.build(&workspace.clients(cluster)?, &[], &[flag])?;
    summary.expect_remote(COMPILE_ACTIONS)?;
    drop(theirs);
    ours.map(Worker::terminate).transpose()?;
    server.terminate()?;
    Ok(Measured { name, small, large, build: summary.took })
}

/// Runs `count` actions that do nothing over these inputs; gives how many a second.
fn rate(remote: &Remote, inputs: &Tree, word: &str, count: usize) -> Result<f64> {
    let prepare = |number: usize| {
        let arguments = ["./attack".to_owned(), "identity".to_owned(), format!("{word}-{number}")];
        let command = Command { arguments: arguments.to_vec(), ..Command::default() };
        remote.prepare(&Work { command, inputs: inputs.clone(), ..Work::default() })
    };
    let actions: Vec<Digest> = (0..count).map(prepare).collect::<Result<_>>()?;
    let next = AtomicUsize::new(0);
    let client = || -> Result<()> {
        loop {
            let Some(action) = actions.get(next.fetch_add(1, Ordering::Relaxed)) else { return Ok(()) };
            let done = remote.run(action.clone())?;
            ensure!(done.status.code == 0 && done.result.exit_code == 0, "an action failed: {done:?}");
        }
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let panicked = |_| Err(anyhow!("a thread of a client panicked"));
        clients.into_iter().try_for_each(|client| client.join().unwrap_or_else(panicked))
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a few hundred actions")]
    Ok(count as f64 / start.elapsed().as_secs_f64())
}
