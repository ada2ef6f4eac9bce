//! What a build on a grid must do, wherever the grid runs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Result, anyhow};

use crate::bazel::Workspace;
use crate::clients::Clients;
use crate::gridcluster::Cluster;
use crate::project::COMPILE_ACTIONS;
use crate::{grid, reference, wait};

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

/// Builds that go on beside something else.
#[derive(Default)]
pub(crate) struct Course {
    /// No further build is to begin.
    enough: AtomicBool,
    /// None runs any more.
    over: AtomicBool,
    builds: AtomicUsize,
    actions: AtomicUsize,
}

impl Course {
    /// How many builds have succeeded.
    pub(crate) fn builds(&self) -> usize {
        self.builds.load(Ordering::Relaxed)
    }

    /// How many actions the grid has run for them.
    pub(crate) fn actions(&self) -> usize {
        self.actions.load(Ordering::Relaxed)
    }

    /// Fails once a build has.
    ///
    /// # Errors
    /// Where none runs any more.
    pub(crate) fn expect_running(&self) -> Result<()> {
        anyhow::ensure!(!self.over.load(Ordering::Relaxed), "the builds have ended");
        Ok(())
    }

    /// Waits until a build has succeeded that was not yet begun.
    ///
    /// # Errors
    /// Where a build fails, or that takes more than a quarter of an hour.
    pub(crate) fn next(&self) -> Result<()> {
        let wanted = self.builds() + 2;
        wait::until("a whole build", 900, || {
            self.expect_running()?;
            Ok(self.builds() >= wanted)
        })
    }

    /// Builds from nothing, again and again, and has the grid run every action.
    fn run(&self, workspace: &mut Workspace, clients: &Clients<'_>, more: &[String]) -> Result<()> {
        while !self.enough.load(Ordering::Relaxed) {
            if self.builds() > 0 {
                workspace.clean()?;
            }
            let count = self.builds() + 1;
            let own = [DOWNLOAD_ALL, "--noremote_accept_cached"].map(str::to_owned);
            let flags = [&own[..], more].concat();
            let summary = workspace.build(clients, &[grid::bazelrc()], &flags)?;
            println!("    build {count}: {:?} in {:.1} s", summary.processes, summary.took.as_secs_f64());
            summary.expect_remote(workspace.goal.compile_actions)?;
            self.actions.fetch_add(summary.count("remote"), Ordering::Relaxed);
            self.builds.store(count, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Does something while builds run from nothing, with the retries that Bazel has by itself, and ends with the build that
/// ran then: none fails, and every action runs on the grid. `flags` are added to those that all of them have.
///
/// # Errors
/// Where that is not so, or what was done fails.
pub(crate) fn meanwhile(
    workspace: &mut Workspace,
    clients: &Clients<'_>,
    flags: &[String],
    work: impl FnOnce(&Course) -> Result<()>,
) -> Result<()> {
    let course = Course::default();
    std::thread::scope(|scope| {
        let builder = scope.spawn(|| {
            let result = course.run(workspace, clients, flags);
            course.over.store(true, Ordering::Relaxed);
            result
        });
        let worked = work(&course);
        course.enough.store(true, Ordering::Relaxed);
        let built = builder.join().map_err(|_| anyhow!("the thread that builds panicked"))?;
        println!("    {} builds meanwhile, of {} actions on the grid", course.builds(), course.actions());
        // What failed beside a build that failed is most often its consequence.
        built.and(worked)
    })
}
