//! The same build on grids of other shapes: services apart, and everything twice on PostgreSQL.

use anyhow::Result;

use super::builds::{self, DOWNLOAD_ALL};
use super::on_cluster::TestGrid;
use crate::grid;

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

fn build(namespace: &'static str, needs: &[&str], example: &str) -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, namespace, needs, example)?;
    let (mut workspace, clients) = test.bazel("demo")?;
    let flags = [DOWNLOAD_ALL.to_owned()];
    builds::clean_then_cached(&cluster, &mut workspace, &clients, &[grid::bazelrc()], &flags)?;
    test.delete()
}
