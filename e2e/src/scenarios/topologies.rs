//! The same build on grids of other shapes: services apart, everything twice on PostgreSQL, and a cache alone.

use anyhow::Result;

use super::builds::{self, DOWNLOAD_ALL};
use super::on_cluster::TestGrid;
use crate::project::COMPILE_ACTIONS;
use crate::{grid, toolchain};

/// CAS, action cache, execution and bots as servers of their own.
///
/// # Errors
/// Where the build does not do what it must.
pub(crate) fn split() -> Result<()> {
    build("split-test", &["postgres.yaml"], "split.yaml")
}

/// Two replicas of each server on PostgreSQL.
///
/// # Errors
/// Where the build does not do what it must.
pub(crate) fn postgres() -> Result<()> {
    build("postgres-test", &["postgres.yaml"], "postgres.yaml")
}

/// A grid without execution: what one build has compiled here and put into the cache, a second one takes from it.
///
/// # Errors
/// Where that is not so.
pub(crate) fn cache_only() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, "cache-only-test", &[], "cache-only.yaml")?;
    let (mut workspace, clients) = test.local_bazel("demo", &toolchain::root("toolchain-gcc12")?)?;
    let (startup, flags) = ([grid::bazelrc()], ["--config=local".to_owned()]);
    let first = workspace.build(&clients, &startup, &flags)?;
    println!("    clean build: {:?} in {:.1} s", first.processes, first.took.as_secs_f64());
    anyhow::ensure!(first.count("remote cache hit") == 0, "the cache was not empty: {first:?}");
    workspace.clean()?;
    let second = workspace.build(&clients, &startup, &flags)?;
    println!("    second clean build: {:?} in {:.1} s", second.processes, second.took.as_secs_f64());
    second.expect_all_hits(COMPILE_ACTIONS)?;
    test.delete()
}

fn build(namespace: &'static str, needs: &[&str], example: &str) -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, namespace, needs, example)?;
    let (mut workspace, clients) = test.bazel("demo")?;
    let flags = [DOWNLOAD_ALL.to_owned()];
    builds::clean_then_cached(&cluster, &mut workspace, &clients, &[grid::bazelrc()], &flags)?;
    test.delete()
}
