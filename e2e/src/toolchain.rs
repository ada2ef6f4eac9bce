//! A toolchain image as a folder on this machine: for builds without a cluster, and for reference builds.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{environment, process};

/// The root file system of a toolchain image, unpacked once for each content.
///
/// # Errors
/// Where the image has not been made or can't be unpacked.
pub(crate) fn root(name: &str) -> Result<PathBuf> {
    let archive = environment::image(name)?;
    let member = |path: &str| {
        let mut tar = Command::new("tar");
        tar.arg("-xOf").arg(&archive).arg(path);
        tar
    };
    let digest_of = |value: &Value| -> Result<String> {
        let digest = value["digest"].as_str().context("a descriptor has no digest")?;
        Ok(digest.replace("sha256:", ""))
    };
    let json =
        |path: &str| -> Result<Value> { Ok(serde_json::from_str(&process::output(&mut member(path))?)?) };
    let manifest = digest_of(&json("index.json")?["manifests"][0])?;
    let layer = digest_of(&json(&format!("blobs/sha256/{manifest}"))?["layers"][0])?;
    let root = environment::cache()?.join("toolchains").join(&layer[..16]);
    if root.is_dir() {
        return Ok(root);
    }
    let partial = root.with_extension("partial");
    process::run(Command::new("rm").arg("-rf").arg(&partial))?;
    std::fs::create_dir_all(&partial)?;
    let mut extract = member(&format!("blobs/sha256/{layer}"));
    let mut child = extract.stdout(std::process::Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("no pipe")?;
    let status = Command::new("tar").arg("-xC").arg(&partial).stdin(stdout).status()?;
    anyhow::ensure!(status.success() && child.wait()?.success(), "can't unpack {}", archive.display());
    std::fs::rename(&partial, &root)?;
    Ok(root)
}
