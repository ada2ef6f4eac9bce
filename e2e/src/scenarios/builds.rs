//! What a build on a grid must do, wherever the grid runs.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow};

use crate::bazel::Workspace;
use crate::clients::Clients;
use crate::gridcluster::Cluster;
use crate::project::COMPILE_ACTIONS;
use crate::{grid, reference};

/// Has Bazel bring every output here, so that it can be compared.
pub(crate) const DOWNLOAD_ALL: &str = "--remote_download_outputs=all";

/// Every action of a clean build runs on the grid, its outputs are a local build's and do what they should, and a
/// second clean build runs none.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn clean_then_cached(
    cluster: &Cluster,
    workspace: &mut Workspace,
    clients: &Clients<'_>,
    startup: &[String],
    flags: &[String],
) -> Result<()> {
    let first = workspace.build(clients, startup, flags)?;
    println!("    clean build: {:?} in {:.1} s", first.processes, first.took.as_secs_f64());
    first.expect_remote(COMPILE_ACTIONS)?;
    workspace.run_outputs(clients)?;
    reference::expect_same(&reference::hashes(cluster)?, &reference::outputs(workspace)?)?;
    workspace.clean()?;
    let second = workspace.build(clients, startup, flags)?;
    println!("    second clean build: {:?} in {:.1} s", second.processes, second.took.as_secs_f64());
    second.expect_all_hits(COMPILE_ACTIONS)
}

/// Builds from nothing, again and again, until it is told that all is done, and gives how many builds that were.
/// `more` are flags beside those that all of them have.
///
/// # Errors
/// Where a build fails, or takes anything from elsewhere than the grid.
pub(crate) fn until(
    workspace: &mut Workspace,
    clients: &Clients<'_>,
    more: &[String],
    done: &AtomicBool,
) -> Result<usize> {
    let all = [DOWNLOAD_ALL.to_owned(), "--noremote_accept_cached".to_owned()];
    let flags = [&all[..], more].concat();
    let mut count = 0;
    loop {
        count += 1;
        let summary = workspace.build(clients, &[grid::bazelrc()], &flags)?;
        println!("    build {count}: {:?} in {:.1} s", summary.processes, summary.took.as_secs_f64());
        summary.expect_remote(COMPILE_ACTIONS)?;
        if done.load(Ordering::Relaxed) {
            return Ok(count);
        }
        workspace.clean()?;
    }
}

/// Does something while builds run, and ends with the build that ran then; none of them fails.
///
/// # Errors
/// Where a build fails, or what is done meanwhile.
pub(crate) fn meanwhile(
    workspace: &mut Workspace,
    clients: &Clients<'_>,
    flags: &[String],
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let builder = scope.spawn(|| until(workspace, clients, flags, &done));
        let worked = work();
        done.store(true, Ordering::Relaxed);
        let built = builder.join().map_err(|_| anyhow!("the thread that builds panicked"))?;
        println!("    {} builds meanwhile", built?);
        worked
    })
}
