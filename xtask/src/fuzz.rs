//! `fuzz`: each target of `fuzz/` under libFuzzer for a while, guided by the coverage of the workspace's own code.
//!
//! What a run finds out about a target is kept in the cache, and the next run goes on from there. A target that has had its
//! time on these sources is not run again. Several run side by side, each with a log of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::record::Records;
use crate::{shell, workspace};

/// For how many seconds each target runs, where the variable doesn't say.
const SECONDS: u64 = 600;
const VARIABLE: &str = "GRID_FUZZ_SECONDS";
const LIMITS: [&str; 4] = ["-timeout=20", "-rss_limit_mb=2048", "-max_len=16384", "-print_final_stats=1"];

/// What is fuzzed.
#[derive(Args)]
pub(crate) struct Options {
    /// Targets, by the names of the folders in `fuzz/corpus`; all where none is named.
    targets: Vec<String>,
    /// How many run at once; as many as the machine has processors where it is not given.
    #[arg(long)]
    jobs: Option<usize>,
}

/// Builds the targets, and runs each for `GRID_FUZZ_SECONDS`, 600 by default.
///
/// # Errors
/// Where one fails: the input that it failed on is named, and belongs into the target's corpus once that is mended.
pub(crate) fn run(options: &Options) -> Result<()> {
    let seconds = std::env::var(VARIABLE).map_or(Ok(SECONDS), |text| text.parse());
    let seconds = seconds.with_context(|| format!("{VARIABLE} is a number of seconds"))?;
    let known = targets()?;
    for name in &options.targets {
        ensure!(known.contains(name), "there is no target {name:?}: {}", known.join(", "));
    }
    let records = Records::open()?;
    let program = build()?;
    let wanted = known.iter().filter(|name| options.targets.is_empty() || options.targets.contains(name));
    let (passed, open): (Vec<&String>, Vec<&String>) =
        wanted.partition(|target| records.passed(&record(target, seconds)).is_some());
    for target in passed {
        println!("==> fuzz {target}: has had its {seconds} s on these sources");
    }
    let jobs =
        options.jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let (waiting, failed) = (Mutex::new(open.into_iter()), Mutex::new(Vec::new()));
    let next = || waiting.lock().ok().and_then(|mut waiting| waiting.next());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(target) = next() {
                    let run = || fuzz(&program, target, seconds);
                    let ran = shell::step(&format!("fuzz {target} for {seconds} s"), run);
                    let ran = ran.and_then(|()| records.pass(&record(target, seconds), "clean\n"));
                    if let (Err(error), Ok(mut failed)) = (ran, failed.lock()) {
                        println!("{error:#}");
                        failed.push(target.as_str());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

fn record(target: &str, seconds: u64) -> String {
    format!("fuzz-{target}-{seconds}")
}

/// The targets' names.
fn targets() -> Result<Vec<String>> {
    let entries =
        std::fs::read_dir(workspace::root().join("fuzz/corpus")).context("fuzz/corpus can't be read")?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Builds the fuzzer, its own crates instrumented.
fn build() -> Result<PathBuf> {
    let build =
        ["build", "--locked", "--quiet", "--profile", "e2e", "-p", "grid-fuzz", "--features", "engine"];
    let wrapper = workspace::root().join("fuzz/instrument");
    shell::step("build the fuzzer", || {
        let mut build = shell::command("cargo", build)?;
        // A cache of compilations takes no compiler that it doesn't know.
        shell::run(build.env("RUSTC_WORKSPACE_WRAPPER", &wrapper).env_remove("RUSTC_WRAPPER"))
    })?;
    Ok(workspace::target()?.join("e2e/grid-fuzz"))
}

/// Runs a target; what it says goes to its log.
fn fuzz(program: &Path, target: &str, seconds: u64) -> Result<()> {
    let kept = workspace::cache()?.join("fuzz").join(target);
    std::fs::create_dir_all(&kept)?;
    let mut arguments = vec![kept.display().to_string(), format!("fuzz/corpus/{target}")];
    if target == "config" {
        arguments.push("grid-server/config/tests/fixtures/examples".to_owned());
    }
    arguments.extend(LIMITS.map(str::to_owned));
    arguments.push(format!("-max_total_time={seconds}"));
    arguments.push(format!("-artifact_prefix={}-failed-", kept.display()));
    let program = program.to_str().context("the cache's path is not UTF-8")?;
    let log = kept.with_extension("log");
    let out = File::create(&log)?;
    let error = out.try_clone()?;
    let mut command = shell::command(program, arguments)?;
    let ran = shell::run(command.env("GRID_FUZZ_TARGET", target).stdout(out).stderr(error));
    let said = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    let mut count = said.lines().filter_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    println!("==> {target}: {} inputs", count.next_back().map_or("an unknown number of", str::trim));
    ran.with_context(|| format!("{}:\n{}", log.display(), lines[lines.len().saturating_sub(40)..].join("\n")))
}
