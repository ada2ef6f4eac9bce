//! Running a client where it is installed: in the root file system of `gridcluster clients-rootfs`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::gridcluster::Cluster;

/// A place to run clients in: what they write outside the bound folders goes to `state`.
pub(crate) struct Clients<'a> {
    cluster: &'a Cluster,
    state: PathBuf,
    binds: Vec<(PathBuf, String)>,
}

impl<'a> Clients<'a> {
    /// A place whose writes are kept in `state`.
    ///
    /// # Errors
    /// Where the root file system can't be made.
    pub(crate) fn new(cluster: &'a Cluster, state: &Path) -> Result<Self> {
        cluster.clients_root()?;
        Ok(Self { cluster, state: state.to_path_buf(), binds: Vec::new() })
    }

    /// Shows a folder or file of this machine at `inside`.
    pub(crate) fn bind(mut self, outside: &Path, inside: &str) -> Self {
        self.binds.push((outside.to_path_buf(), inside.to_owned()));
        self
    }

    /// A command that runs there, in the folder `workdir`.
    pub(crate) fn command(&self, workdir: &str, words: &[&str]) -> Command {
        let mut command = self.cluster.command(["clients-run", "--workdir", workdir, "--state"]);
        command.arg(&self.state);
        for (outside, inside) in &self.binds {
            command.arg("--bind").arg(format!("{}:{inside}", outside.display()));
        }
        command.arg("--").args(words);
        command
    }
}
