//! `import` and `bgd`: install BuildGrid from its wheel; run the test in which it hands a storage over to ours and back,
//! and the scenarios with its client commands.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{shell, workspace};

const WHEEL: &str = "buildgrid[redis]==0.9.1";
/// Its environment in the cache.
const FOLDER: &str = "buildgrid-0.9.1";
/// The oldest Python that the wheel takes, and those that may be there beside it.
const PYTHONS: [&str; 3] = ["python3.13", "python3.14", "python3.15"];

/// Installs and tests.
///
/// # Errors
/// Where there is no Python for the wheel, or the test fails.
pub(crate) fn run() -> Result<()> {
    let programs = installed()?;
    let test = ["test", "--locked", "-p", "grid-server", "--test", "import", "--", "--ignored"];
    shell::run(shell::command("cargo", test)?.env("GRID_BUILDGRID", programs))
}

/// Installs, and runs a scenario of the end-to-end tests with BuildGrid's programs at hand.
///
/// # Errors
/// As [`run`].
pub(crate) fn scenario(name: &str) -> Result<()> {
    let programs = installed()?;
    let run = ["run", "--quiet", "--locked", "-p", "grid-e2e", "--", "run", name];
    shell::run(shell::command("cargo", run)?.env("GRID_BUILDGRID", programs))
}

/// The folder of BuildGrid's programs, in an environment of its own in the cache.
///
/// # Errors
/// Where there is no Python for the wheel, or it can't be installed.
pub(crate) fn installed() -> Result<PathBuf> {
    let folder = workspace::cache()?.join(FOLDER);
    let programs = folder.join("bin");
    if programs.join("bgd").is_file() {
        return Ok(programs);
    }
    shell::step(&format!("install {WHEEL}"), || {
        let path = folder.to_str().context("the cache's path is not UTF-8")?;
        let python = python()?;
        shell::run(&mut shell::command(&python, ["-m", "venv", "--clear", path])?)?;
        let pip = programs.join("pip").display().to_string();
        shell::run(&mut shell::command(&pip, ["install", "--quiet", WHEEL])?)
    })?;
    Ok(programs)
}

/// A Python that is new enough: of the path, or of those that pyenv keeps.
fn python() -> Result<String> {
    let works = |program: &str| {
        let mut command = Command::new(program);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if let Some(found) = PYTHONS.into_iter().find(|name| works(name)) {
        return Ok(found.to_owned());
    }
    let home = std::env::var("HOME").unwrap_or_default();
    let versions =
        std::fs::read_dir(Path::new(&home).join(".pyenv/versions")).into_iter().flatten().flatten();
    let kept = versions.flat_map(|version| PYTHONS.map(|name| version.path().join("bin").join(name)));
    match kept.map(|path| path.display().to_string()).find(|path| works(path)) {
        Some(found) => Ok(found),
        None => bail!("BuildGrid's wheel needs Python 3.13 or later: install python3.13 and its venv module"),
    }
}
