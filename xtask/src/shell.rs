//! Starting other programs, with the time that each took.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// A command that runs in the checkout, with cargo's build folder outside it and no standard input.
pub(crate) fn command<S: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = S>,
) -> Result<Command> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(workspace::root())
        .env("CARGO_TARGET_DIR", workspace::target()?)
        .env("GRID_CACHE", workspace::cache()?)
        .stdin(Stdio::null());
    Ok(command)
}

/// Runs a command to its end; its output goes where ours goes.
///
/// # Errors
/// Where it can't be started, or ends with another status than 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("can't start: {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs a command and gives its standard output, without the last line's end.
///
/// # Errors
/// As [`run`].
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("can't start: {shown}"))?;
    if !output.status.success() {
        bail!("{shown}: {}", output.status);
    }
    Ok(String::from_utf8(output.stdout).with_context(|| format!("{shown}: not UTF-8"))?.trim_end().to_owned())
}

/// Does one step, saying which and how long it took.
///
/// # Errors
/// Those of the step, with its name.
pub(crate) fn step<T>(name: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("==> {name}");
    let start = Instant::now();
    let result = body().with_context(|| format!("step failed: {name}"));
    let outcome = if result.is_ok() { "done" } else { "FAILED" };
    println!("==> {name}: {outcome} in {:.1} s", start.elapsed().as_secs_f64());
    result
}

/// Whether a program of this name is on the PATH.
pub(crate) fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) || Path::new(program).is_file()
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
