//! A Bazel build, and what Bazel says of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use regex::Regex;

use crate::clients::Clients;
use crate::gridcluster::Cluster;
use crate::process::{self, Output};
use crate::project::{EVERYTHING, Goal};

/// A folder with a project and Bazel's output base: the same output base is Bazel's memory of earlier builds.
pub(crate) struct Workspace {
    /// The project.
    pub(crate) project: PathBuf,
    /// Bazel's output base.
    pub(crate) output: PathBuf,
    /// What its builds build.
    pub(crate) goal: Goal,
    state: PathBuf,
}

/// What a build did.
#[derive(Debug)]
pub(crate) struct Summary {
    /// Actions by how they were done: `remote`, `remote cache hit`, `internal`, `local` …
    pub(crate) processes: Vec<(String, usize)>,
    /// How long it took, Bazel's start included.
    pub(crate) took: Duration,
}

impl Summary {
    /// How many actions were done in this way.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.processes.iter().filter(|(name, _)| name == kind).map(|(_, count)| count).sum()
    }

    /// Fails unless at least `least` actions ran remotely and none anywhere but there or in Bazel itself.
    ///
    /// # Errors
    /// Where an action ran locally, or too few ran.
    pub(crate) fn expect_remote(&self, least: usize) -> Result<()> {
        let elsewhere: Vec<_> = self
            .processes
            .iter()
            .filter(|(name, _)| !["remote", "remote cache hit", "internal"].contains(&name.as_str()))
            .collect();
        anyhow::ensure!(elsewhere.is_empty(), "actions ran elsewhere than remotely: {elsewhere:?}");
        let remote = self.count("remote");
        anyhow::ensure!(
            remote >= least,
            "{remote} actions ran remotely, expected at least {least}: {self:?}"
        );
        Ok(())
    }

    /// Fails unless every action was a cache hit.
    ///
    /// # Errors
    /// Where an action ran.
    pub(crate) fn expect_all_hits(&self, least: usize) -> Result<()> {
        let ran: Vec<_> = self
            .processes
            .iter()
            .filter(|(name, _)| !["remote cache hit", "internal"].contains(&name.as_str()))
            .collect();
        anyhow::ensure!(ran.is_empty(), "actions ran, though all were in the cache: {ran:?}");
        let hits = self.count("remote cache hit");
        anyhow::ensure!(hits >= least, "{hits} cache hits, expected at least {least}: {self:?}");
        Ok(())
    }
}

impl Workspace {
    /// A workspace in `dir`, with the native project laid out in it.
    ///
    /// # Errors
    /// Where the project can't be laid out.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let (project, output, state) = (dir.join("project"), dir.join("output"), dir.join("state"));
        for folder in [&project, &output, &state] {
            std::fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
        }
        crate::project::lay_out(&project)?;
        Ok(Self { project, output, goal: EVERYTHING, state })
    }

    /// Forgets what Bazel knows: the next build is a clean one.
    ///
    /// # Errors
    /// Where the output base can't be emptied.
    pub(crate) fn clean(&mut self) -> Result<()> {
        // Bazel makes its outputs read-only, which stops no one who may change the folder.
        process::run(std::process::Command::new("rm").arg("-rf").arg(&self.output))?;
        Ok(std::fs::create_dir_all(&self.output)?)
    }

    /// The place in which this workspace's commands run.
    ///
    /// # Errors
    /// Where the clients' root file system can't be made.
    pub(crate) fn clients<'a>(&self, cluster: &'a Cluster) -> Result<Clients<'a>> {
        Ok(Clients::new(cluster, &self.state)?.bind(&self.project, "/src").bind(&self.output, "/ob"))
    }

    /// Builds the goal with the given startup options and flags.
    ///
    /// # Errors
    /// Where the build fails: the end of Bazel's output is in the error.
    pub(crate) fn build(
        &self,
        clients: &Clients<'_>,
        startup: &[String],
        flags: &[String],
    ) -> Result<Summary> {
        let start = Instant::now();
        let output = Self::attempt(clients, startup, flags, self.goal)?;
        if !output.success {
            let lines: Vec<&str> = output.text.lines().collect();
            bail!("the build failed:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
        Ok(Summary { took: start.elapsed(), ..summary(&output)? })
    }

    /// Tries a build that must fail; what Bazel printed.
    ///
    /// # Errors
    /// Where it succeeds.
    pub(crate) fn refused(clients: &Clients<'_>, startup: &[String], flags: &[String]) -> Result<Output> {
        let output = Self::attempt(clients, startup, flags, EVERYTHING)?;
        anyhow::ensure!(!output.success, "the build succeeded, which it must not:\n{}", output.text);
        Ok(output)
    }

    fn attempt(clients: &Clients<'_>, startup: &[String], flags: &[String], goal: Goal) -> Result<Output> {
        let mut words = vec!["bazel", "--output_base=/ob"];
        words.extend(startup.iter().map(String::as_str));
        words.extend(["build", "--noshow_progress", "--color=no"]);
        words.extend(flags.iter().map(String::as_str));
        words.push(goal.target);
        process::capture(&mut clients.command("/src", &words))
    }

    /// Runs the programs that were built, and checks what they print: they do what their sources say.
    ///
    /// # Errors
    /// Where one fails or prints something else.
    pub(crate) fn run_outputs(&self, clients: &Clients<'_>) -> Result<()> {
        let expected = [
            ("absl/check", "one-two 1.5s"),
            ("lua/check_5.1.5", "Lua 5.1 338350"),
            ("lua/check_5.2.4", "Lua 5.2 338350"),
            ("lua/check_5.3.6", "Lua 5.3 338350"),
            ("lua/check_5.4.9", "Lua 5.4 338350"),
            ("lua/check_5.5.1", "Lua 5.5 338350"),
            ("zstd/check", "zstd 1.5.7 25"),
        ];
        for (program, text) in expected {
            let path = format!("/src/bazel-bin/{program}");
            let printed = process::output(&mut clients.command("/src", &[&path]))?;
            anyhow::ensure!(printed.trim() == text, "{program} printed {printed:?}, expected {text:?}");
        }
        Ok(())
    }
}

/// A project of `e2e/projects`, copied into `dir`.
///
/// # Errors
/// Where it can't be copied.
pub(crate) fn lay_out(name: &str, dir: &Path) -> Result<PathBuf> {
    let project = dir.join("project");
    let source = crate::environment::root().join("e2e/projects").join(name);
    process::run(std::process::Command::new("cp").arg("-r").arg(source).arg(&project))?;
    Ok(project)
}

/// What a build did, by what Bazel printed.
///
/// # Errors
/// Where Bazel printed no count of processes.
pub(crate) fn summary(output: &Output) -> Result<Summary> {
    Ok(Summary { processes: processes(&output.text)?, took: Duration::ZERO })
}

/// The counts of Bazel's line `INFO: 4 processes: 2 internal, 2 remote.`
fn processes(text: &str) -> Result<Vec<(String, usize)>> {
    let line = Regex::new(r"(?m)^INFO: \d+ process(?:es)?: (.*)\.$")?;
    let captures = line.captures_iter(text).last().context("Bazel printed no count of processes")?;
    captures[1]
        .split(", ")
        .map(|part| {
            let (count, kind) = part.split_once(' ').context("a count of processes has no kind")?;
            Ok((kind.to_owned(), count.parse()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_processes_is_read() {
        let text =
            "INFO: Elapsed time: 1s\nINFO: 370 processes: 300 remote cache hit, 2 internal, 68 remote.\n";
        let summary = Summary { processes: processes(text).unwrap(), took: Duration::ZERO };
        assert_eq!(summary.count("remote cache hit"), 300);
        assert_eq!(summary.count("remote"), 68);
        assert!(summary.expect_remote(68).is_ok());
        assert!(summary.expect_remote(69).is_err());
        assert!(summary.expect_all_hits(300).is_err(), "68 actions ran");
    }

    #[test]
    fn an_action_that_ran_locally_fails_the_expectation() {
        let text = "INFO: 3 processes: 2 remote, 1 processwrapper-sandbox.\n";
        let summary = Summary { processes: processes(text).unwrap(), took: Duration::ZERO };
        assert!(summary.expect_remote(1).is_err());
    }
}
