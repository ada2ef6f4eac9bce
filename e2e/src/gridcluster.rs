//! The cluster of `e2e/cluster`, through its command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{environment, process};

/// The command that starts and stops the cluster, and what it says of the running one.
pub(crate) struct Cluster {
    program: PathBuf,
}

impl Cluster {
    /// The command, with all that a cluster consists of built; no cluster is started.
    ///
    /// # Errors
    /// Where something can't be built.
    pub(crate) fn prepare() -> Result<Self> {
        let cluster = Self::command_only();
        process::run(&mut cluster.command(["build"]))?;
        Ok(cluster)
    }

    /// The command alone: enough to stop a cluster, and for clients without one.
    pub(crate) fn command_only() -> Self {
        Self { program: environment::root().join("e2e/cluster/gridcluster") }
    }

    /// The running cluster: started where it does not run, and anew where it has another number of nodes.
    ///
    /// # Errors
    /// Where it can't be built, stopped or started.
    pub(crate) fn up(nodes: u32) -> Result<Self> {
        let cluster = Self::prepare()?;
        let running = cluster.variables().ok().and_then(|variables| variables.get("NODES").cloned());
        if running.is_some_and(|running| running != nodes.to_string()) {
            process::run(&mut cluster.command(["down"]))?;
        }
        process::run(&mut cluster.command(["up", "--nodes", &nodes.to_string()]))?;
        Ok(cluster)
    }

    /// A command of gridcluster.
    pub(crate) fn command<S: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        command
    }

    /// What gridcluster says of the running cluster: `KUBECONFIG`, `INGRESS_ADDRESS` and more.
    ///
    /// # Errors
    /// Where no cluster runs.
    pub(crate) fn variables(&self) -> Result<BTreeMap<String, String>> {
        let text = process::output(&mut self.command(["env"]))?;
        Ok(text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
            .collect())
    }

    /// Puts images onto each node.
    ///
    /// # Errors
    /// Where an import fails.
    pub(crate) fn load(&self, archives: &[PathBuf]) -> Result<()> {
        process::run(self.command(["load"]).args(archives))
    }

    /// The archives of the images of PostgreSQL, Redis and the S3 server.
    ///
    /// # Errors
    /// Where they can't be made.
    pub(crate) fn service_images(&self) -> Result<Vec<PathBuf>> {
        let text = process::output(&mut self.command(["services-images"]))?;
        Ok(text.split_whitespace().map(PathBuf::from).collect())
    }

    /// The root file system with the clients; made where it is not there.
    ///
    /// # Errors
    /// Where it can't be made.
    pub(crate) fn clients_root(&self) -> Result<PathBuf> {
        let text = process::output(&mut self.command(["clients-rootfs"]))?;
        let line = text.lines().last().context("gridcluster clients-rootfs printed no folder")?;
        Ok(Path::new(line.trim()).to_path_buf())
    }

    /// Ends the cluster and removes every trace of it.
    ///
    /// # Errors
    /// Where something is left.
    pub(crate) fn down(&self) -> Result<()> {
        process::run(&mut self.command(["down"]))
    }
}
