//! The C and C++ project that the builds build: our BUILD files over upstream trees inside registry crates.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;
use walkdir::WalkDir;

use crate::{environment, process};

/// How many compile actions the project has: the sources are pinned, so this is exact.
pub(crate) const COMPILE_ACTIONS: usize = 356;

/// What is to be built of the project.
#[derive(Clone, Copy)]
pub(crate) struct Goal {
    /// Bazel's name of it.
    pub(crate) target: &'static str,
    /// How many compile actions it has.
    pub(crate) compile_actions: usize,
}

/// The whole project.
pub(crate) const EVERYTHING: Goal = Goal { target: "//:all_checks", compile_actions: COMPILE_ACTIONS };
/// One Lua and the program that runs on it: for who needs many builds rather than many actions.
pub(crate) const ONE_LUA: Goal = Goal { target: "//lua:check_5.1.5", compile_actions: 30 };

/// Lays out in `to` what recc builds: a Makefile, Lua's sources, and the program that runs on them.
///
/// # Errors
/// Where a crate can't be fetched or a file not be copied.
pub(crate) fn lay_out_recc(to: &Path) -> Result<()> {
    copy(&environment::root().join("e2e/projects/recc"), to)?;
    copy_lua(&to.join("lua"), to)
}

/// Lays out in `to` what BuildStream builds, but for the elements of the sources and the base's files.
///
/// # Errors
/// Where a crate can't be fetched or a file not be copied.
pub(crate) fn lay_out_buildstream(to: &Path) -> Result<()> {
    copy(&environment::root().join("e2e/projects/buildstream"), to)?;
    copy_lua(&to.join("files/lua"), &to.join("files/lua"))
}

/// Copies Lua's sources to `library`, and the program that runs on them to `program`.
fn copy_lua(library: &Path, program: &Path) -> Result<()> {
    let native = environment::root().join("e2e/projects/native");
    let crates = sources(&native.join("sources/Cargo.toml"))?;
    copy(&source(&crates, "lua-src")?.join("lua-5.4.9"), library)?;
    std::fs::copy(native.join("lua/check.c"), program.join("check.c"))?;
    Ok(())
}

/// Lays the project out in `to`.
///
/// # Errors
/// Where a crate can't be fetched or a file not be copied.
pub(crate) fn lay_out(to: &Path) -> Result<()> {
    let project = environment::root().join("e2e/projects/native");
    copy(&project, to)?;
    std::fs::remove_dir_all(to.join("sources"))?;
    copy(&environment::root().join("examples/toolchains"), &to.join("toolchains"))?;
    let crates = sources(&project.join("sources/Cargo.toml"))?;
    let source = |name: &str| source(&crates, name);
    let lua = source("lua-src")?;
    for version in ["5.1.5", "5.2.4", "5.3.6", "5.4.9", "5.5.1"] {
        let folder = format!("lua-{version}");
        copy(&lua.join(&folder), &to.join("lua").join(&folder))?;
    }
    copy(&source("zstd-sys")?.join("zstd/lib"), &to.join("zstd/lib"))?;
    let absl = "protobuf/third_party/abseil-cpp/absl";
    copy(&source("protobuf-src")?.join(absl), &to.join("absl/absl"))?;
    remove_build_files(&to.join("absl/absl"))
}

fn source(crates: &[(String, PathBuf)], name: &str) -> Result<PathBuf> {
    let found = crates.iter().find(|(crate_name, _)| crate_name == name);
    found.map(|(_, path)| path.clone()).with_context(|| format!("the crate {name} was not fetched"))
}

/// The crates that the manifest names, and where cargo has put them.
fn sources(manifest: &Path) -> Result<Vec<(String, PathBuf)>> {
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new("cargo");
        command.args(arguments).arg("--locked").arg("--manifest-path").arg(manifest);
        command
    };
    process::run(&mut cargo(&["fetch", "--quiet"]))?;
    let metadata = process::output(&mut cargo(&["metadata", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata: not JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata: no packages")?;
    Ok(packages
        .iter()
        .filter_map(|p| {
            let folder = Path::new(p["manifest_path"].as_str()?).parent()?;
            Some((p["name"].as_str()?.to_owned(), folder.to_path_buf()))
        })
        .collect())
}

/// Upstream's own BUILD files would make packages of what is one library here.
fn remove_build_files(dir: &Path) -> Result<()> {
    for entry in WalkDir::new(dir) {
        let entry = entry?;
        if entry.file_name() == "BUILD.bazel" || entry.file_name() == "BUILD" {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in WalkDir::new(from) {
        let entry = entry.with_context(|| format!("can't read {}", from.display()))?;
        let target = to.join(entry.path().strip_prefix(from)?);
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(&target)?;
        } else {
            std::fs::copy(entry.path(), &target)
                .with_context(|| format!("can't write {}", target.display()))?;
        }
    }
    Ok(())
}
