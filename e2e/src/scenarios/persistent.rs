//! Bazel's persistent workers on the grid: one process does the work of many actions.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use super::variants::ALWAYS;
use crate::clients::Clients;
use crate::gridcluster::Cluster;
use crate::local::{Image, Server, Worker};
use crate::{bazel, environment};

/// Actions of each form of the protocol.
const EACH: usize = 4;

/// Actions whose rule supports workers are done by one process for each form of the protocol, one after the other; where
/// the tool is another, by another one.
///
/// # Errors
/// Where one of that is not so.
pub(crate) fn workers() -> Result<()> {
    let cluster = Cluster::command_only();
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let server = Server::start(dir.path(), "bare.yml")?;
    let more = ["--persistent-workers", "2"];
    let worker = Worker::start_with(dir.path(), &server, &Image::Apart(&cluster), &[], &more)?;
    let project = bazel::lay_out("persistent", dir.path())?;
    let place = Clients::new(&cluster, &dir.path().join("state"))?.bind(&project, "/src");
    let remote = format!("--remote_executor={}", server.address("grpc"));

    let first = build(&place, &remote)?;
    let tool = project.join("tool.py");
    let text = std::fs::read_to_string(&tool)?;
    std::fs::write(&tool, format!("{text}# Another tool.\n"))?;
    let second = build(&place, &remote)?;
    ensure!(first.is_disjoint(&second), "another tool's work was done by the old one's process");
    worker.terminate()?;
    server.terminate()
}

/// Builds everything, one action at a time; gives the processes that did it, one for each form.
fn build(place: &Clients<'_>, remote: &str) -> Result<BTreeSet<String>> {
    let flags = ["--noshow_progress", "--jobs=1", "--experimental_remote_mark_tool_inputs", "//:all_work"];
    let words = [&["bazel", "build", remote], ALWAYS, &flags[..]].concat();
    let output = place.succeed("/src", &words)?;
    bazel::summary(&output)?.expect_remote(2 * EACH)?;
    let mut processes = BTreeSet::new();
    for form in ["json", "proto"] {
        let mut numbers = BTreeSet::new();
        for n in 0..EACH {
            let name = format!("{form}{n}");
            let made = place.succeed("/src", &["cat", &format!("bazel-bin/{name}.txt")])?.text;
            let words: Vec<&str> = made.split_whitespace().collect();
            let [process, number, done] = words[..] else { anyhow::bail!("{name} made {made:?}") };
            ensure!(done == name, "{name} made {made:?}");
            processes.insert(process.to_owned());
            numbers.insert(number.parse::<usize>().context("a number")?);
        }
        ensure!(numbers == (1..=EACH).collect(), "{form}: not done by one process: {numbers:?}");
    }
    ensure!(processes.len() == 2, "done by {} processes", processes.len());
    Ok(processes)
}
