//! Blobs in a bucket that is cleaned every minute, beside the builds that fill it.

use anyhow::{Context, Result};
use regex::Regex;

use super::builds::{self, DOWNLOAD_ALL};
use super::on_cluster::TestGrid;
use crate::project::COMPILE_ACTIONS;
use crate::{grid, process, reference};

const MIB: u64 = 1024 * 1024;
/// Much less than what a build needs.
const HIGH: u64 = 24 * MIB;
const LOW: u64 = 12 * MIB;
/// What is used within this time stays: less than a build takes.
const UNUSED: &str = "45s";

/// The grid of `examples/s3.yaml` builds as any other. Then its bucket is cleaned every minute down to less than a build
/// needs: a build that runs every action again and one that takes what is left from the cache both succeed, and each
/// cleaner's run ends at the low watermark or names what it kept.
///
/// # Errors
/// Where a build fails, an input is lost, or a run of the cleaner does something else.
pub(crate) fn s3() -> Result<()> {
    let cluster = grid::cluster_with_operator(1)?;
    let test = TestGrid::apply(&cluster, "s3-test", &["postgres.yaml", "s3.yaml"], "s3.yaml")?;
    let (mut workspace, clients) = test.bazel("demo")?;
    let (startup, all) = ([grid::bazelrc()], DOWNLOAD_ALL.to_owned());
    builds::clean_then_cached(&cluster, &mut workspace, &clients, &startup, std::slice::from_ref(&all))?;
    tighten(&test)?;
    for (name, more) in [("without the cache", Some("--noremote_accept_cached")), ("from what is left", None)]
    {
        workspace.clean()?;
        let flags: Vec<String> = std::iter::once(all.clone()).chain(more.map(str::to_owned)).collect();
        let summary = workspace.build(&clients, &startup, &flags)?;
        println!("    build {name}: {:?} in {:.1} s", summary.processes, summary.took.as_secs_f64());
        let done = summary.count("remote") + summary.count("remote cache hit");
        anyhow::ensure!(done >= COMPILE_ACTIONS, "{done} actions were done on the grid: {summary:?}");
        summary.expect_remote(0)?;
        workspace.run_outputs(&clients)?;
        reference::expect_same(&reference::hashes(&cluster)?, &reference::outputs(&workspace)?)?;
    }
    clean_now(&test)?;
    expect_sound_runs(&test)?;
    test.delete()
}

/// Has the bucket cleaned every minute, between watermarks that one build passes.
fn tighten(test: &TestGrid<'_>) -> Result<()> {
    let patch = serde_json::json!([
        {"op": "add", "path": "/spec/storages/1/sqlIndex/promisedLifetime", "value": UNUSED},
        {"op": "replace", "path": "/spec/cleanup", "value": {
            "schedule": "* * * * *",
            "highWatermark": HIGH.to_string(),
            "lowWatermark": LOW.to_string(),
            "batchSize": "4Mi",
            "onlyIfUnusedFor": UNUSED,
        }},
    ]);
    let patch = format!("--patch={patch}");
    let arguments = ["patch", "--namespace", test.namespace, "cas/blobs", "--type=json", &patch];
    process::run(&mut test.kube.kubectl(arguments))?;
    ["cas/blobs", "grid/demo"].iter().try_for_each(|object| {
        test.kube.wait(test.namespace, object, "condition=Progressing=False", 120)?;
        test.kube.wait(test.namespace, object, "condition=Ready", 120)
    })
}

/// Runs the CronJob once more, out of turn, and waits for its end.
fn clean_now(test: &TestGrid<'_>) -> Result<()> {
    let jobs = test.names("cronjobs")?;
    let cron = jobs.first().context("the tier has no CronJob that cleans it")?;
    let from = format!("--from={}", cron.replace(".batch", ""));
    process::run(&mut test.kube.kubectl(["create", "--namespace", test.namespace, "job", "last", &from]))?;
    test.kube.wait(test.namespace, "job/last", "condition=Complete", 120)
}

/// What each run that is still there printed: something was deleted, and no run left more than it says.
fn expect_sound_runs(test: &TestGrid<'_>) -> Result<()> {
    let logs = process::output(&mut test.kube.kubectl([
        "logs",
        "--namespace",
        test.namespace,
        "--selector=app.kubernetes.io/component=cleanup",
        "--tail=-1",
    ]))?;
    let run = Regex::new(r"(?m)^.*: (\d+) bytes in \d+ blobs, deleted (\d+) bytes in \d+ blobs(.*)$")?;
    let (mut runs, mut freed) = (0, 0);
    for line in run.captures_iter(&logs) {
        println!("    cleanup: {}", &line[0]);
        let (before, deleted): (u64, u64) = (line[1].parse()?, line[2].parse()?);
        let ended = before < HIGH || before - deleted <= LOW || line[3].contains("were kept: ");
        anyhow::ensure!(ended, "this run stopped above the low watermark and named no cause: {}", &line[0]);
        runs += 1;
        freed += deleted;
    }
    anyhow::ensure!(runs > 1 && freed > 0, "{runs} runs deleted {freed} bytes:\n{logs}");
    Ok(())
}
