//! Running a client where it is installed: in the root file system of `gridcluster clients-rootfs`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::gridcluster::Cluster;
use crate::process::{self, Output};

/// A place to run clients in: what they write outside the bound folders goes to `state`.
pub(crate) struct Clients<'a> {
    cluster: &'a Cluster,
    state: PathBuf,
    binds: Vec<(PathBuf, String)>,
    variables: Vec<String>,
}

impl<'a> Clients<'a> {
    /// A place whose writes are kept in `state`.
    ///
    /// # Errors
    /// Where the root file system can't be made.
    pub(crate) fn new(cluster: &'a Cluster, state: &Path) -> Result<Self> {
        cluster.clients_root()?;
        Ok(Self { cluster, state: state.to_path_buf(), binds: Vec::new(), variables: Vec::new() })
    }

    /// Shows a folder or file of this machine at `inside`.
    pub(crate) fn bind(mut self, outside: &Path, inside: &str) -> Self {
        self.binds.push((outside.to_path_buf(), inside.to_owned()));
        self
    }

    /// Sets an environment variable for every command.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push(format!("{name}={value}"));
        self
    }

    /// A command that runs there, in the folder `workdir`.
    pub(crate) fn command(&self, workdir: &str, words: &[&str]) -> Command {
        let mut command = self.cluster.command(["clients-run", "--workdir", workdir, "--state"]);
        command.arg(&self.state);
        for (outside, inside) in &self.binds {
            command.arg("--bind").arg(format!("{}:{inside}", outside.display()));
        }
        for variable in &self.variables {
            command.args(["--env", variable]);
        }
        command.arg("--").args(words);
        command
    }

    /// What a command prints that must succeed.
    ///
    /// # Errors
    /// Where it fails; all that it printed is in the error.
    pub(crate) fn succeed(&self, workdir: &str, words: &[&str]) -> Result<Output> {
        let output = process::capture(&mut self.command(workdir, words))?;
        ensure!(output.success, "{} failed:\n{}", words.join(" "), output.text);
        Ok(output)
    }

    /// What a command prints that must fail.
    ///
    /// # Errors
    /// Where it succeeds; all that it printed is in the error.
    pub(crate) fn fail(&self, workdir: &str, words: &[&str]) -> Result<Output> {
        let output = process::capture(&mut self.command(workdir, words))?;
        ensure!(!output.success, "{} succeeded, which it must not:\n{}", words.join(" "), output.text);
        Ok(output)
    }
}
