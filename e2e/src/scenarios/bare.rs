//! Bazel without a cluster: the all-in-one server, a worker and a runner as processes of this machine.

use anyhow::Result;

use super::builds::{self, DOWNLOAD_ALL};
use crate::bazel::Workspace;
use crate::gridcluster::Cluster;
use crate::local::{Image, Server, Worker};
use crate::{environment, toolchain};

/// Every action of a clean build runs on the worker, a second clean build runs none, and the outputs are those of a
/// local build.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn remote() -> Result<()> {
    let cluster = Cluster::command_only();
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let server = Server::start(dir.path(), "bare.yml")?;
    let root = toolchain::root("toolchain-gcc12")?;
    let properties = ["OSFamily=linux", "ISA=x86-64", "toolchain=gcc12"];
    let worker = Worker::start(dir.path(), &server, &Image::Toolchain(&root), &properties)?;
    let mut workspace = Workspace::new(dir.path())?;
    let clients = workspace.clients(&cluster)?;
    let flags = [format!("--remote_executor={}", server.address("grpc")), DOWNLOAD_ALL.to_owned()];
    builds::clean_then_cached(&cluster, &mut workspace, &clients, &[], &flags)?;
    worker.terminate()?;
    server.terminate()
}
