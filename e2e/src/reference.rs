//! What a local build of the project makes: hashes of every object, archive and program.
//!
//! Bazel runs where it is installed, and its compiler in the toolchain's root file system, by a wrapper. The hashes
//! are kept, for the sources and the toolchain are pinned.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::bazel::Workspace;
use crate::clients::Clients;
use crate::gridcluster::Cluster;
use crate::{environment, toolchain};

/// Enters the toolchain's root file system in the folder where Bazel called the compiler.
const WRAPPER: &str = r#"#!/bin/sh
exec chroot /toolchain /bin/sh -c 'cd "$0" && exec "$@"' "$(pwd -P)" "/usr/bin/${0##*/}" "$@"
"#;

/// Path below Bazel's output folder to hash.
pub(crate) type Hashes = BTreeMap<String, String>;

/// The hashes of a local build with gcc 12.
///
/// # Errors
/// Where the build fails.
pub(crate) fn hashes(cluster: &Cluster) -> Result<Hashes> {
    let root = toolchain::root("toolchain-gcc12")?;
    let dir = tempfile::tempdir_in(environment::cache()?)?;
    let workspace = Workspace::new(dir.path())?;
    let kept = environment::cache()?.join(format!("reference-{}.json", key(&workspace.project, &root)?));
    if let Ok(text) = std::fs::read_to_string(&kept) {
        return serde_json::from_str(&text).with_context(|| format!("{}: not hashes", kept.display()));
    }
    println!("    local build for reference");
    let clients = with_toolchain(&workspace, cluster, &root, dir.path())?;
    workspace.build(&clients, &[], &["--config=local".to_owned()])?;
    let hashes = outputs(&workspace)?;
    std::fs::write(&kept, serde_json::to_string_pretty(&hashes)?)?;
    Ok(hashes)
}

/// A place in which Bazel's local actions are compiled by the toolchain whose root file system is `root`.
///
/// # Errors
/// Where the wrapper can't be written to `dir`.
pub(crate) fn with_toolchain<'a>(
    workspace: &Workspace,
    cluster: &'a Cluster,
    root: &Path,
    dir: &Path,
) -> Result<Clients<'a>> {
    compiling(
        workspace.clients(cluster)?,
        root,
        dir,
        &[(&workspace.output, "/ob"), (&workspace.project, "/src")],
    )
}

/// A place whose compiler is that of the toolchain at `root`, for sources in these folders, which it sees where the place
/// does.
///
/// # Errors
/// As [`with_toolchain`].
pub(crate) fn compiling<'a>(
    place: Clients<'a>,
    root: &Path,
    dir: &Path,
    folders: &[(&Path, &str)],
) -> Result<Clients<'a>> {
    let wrapper = dir.join("wrapper");
    std::fs::write(&wrapper, WRAPPER)?;
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
    let mut clients = place.bind(root, "/toolchain").bind(Path::new("/dev"), "/toolchain/dev");
    for (folder, inside) in folders {
        clients = clients.bind(folder, &format!("/toolchain{inside}"));
    }
    for tool in ["gcc", "ar", "strip"] {
        clients = clients.bind(&wrapper, &format!("/usr/bin/{tool}"));
    }
    Ok(clients)
}

/// The hashes of all that a build has made in this workspace.
///
/// # Errors
/// Where an output can't be read.
pub(crate) fn outputs(workspace: &Workspace) -> Result<Hashes> {
    let bin = workspace.output.join("execroot/native/bazel-out/k8-fastbuild/bin");
    let bin =
        if bin.is_dir() { bin } else { workspace.output.join("execroot/_main/bazel-out/k8-fastbuild/bin") };
    let mut hashes = Hashes::new();
    for entry in WalkDir::new(&bin) {
        let entry = entry.with_context(|| format!("no outputs in {}", bin.display()))?;
        let name = entry.file_name().to_string_lossy();
        let program =
            entry.path().extension().is_none_or(|e| e.len() == 1 && e.as_encoded_bytes()[0].is_ascii_digit());
        let wanted = name.ends_with(".o") || name.ends_with(".a") || (name.starts_with("check") && program);
        if entry.file_type().is_file() && wanted {
            let path = entry.path().strip_prefix(&bin)?.to_string_lossy().into_owned();
            hashes.insert(path, hex::encode(Sha256::digest(std::fs::read(entry.path())?)));
        }
    }
    Ok(hashes)
}

/// Fails, naming the first differences, unless both builds made the same.
///
/// # Errors
/// Where they differ.
pub(crate) fn expect_same(reference: &Hashes, built: &Hashes) -> Result<()> {
    let differ: Vec<&String> =
        reference.iter().filter(|(p, h)| built.get(*p) != Some(*h)).map(|(p, _)| p).collect();
    anyhow::ensure!(
        differ.is_empty() && reference.len() == built.len(),
        "{} of {} outputs differ from a local build's ({} were made), such as {:?}",
        differ.len(),
        reference.len(),
        built.len(),
        &differ[..differ.len().min(5)]
    );
    Ok(())
}

fn key(project: &Path, toolchain: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    hasher.update(toolchain.file_name().unwrap_or_default().as_encoded_bytes());
    for entry in WalkDir::new(project).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() {
            hasher.update(entry.path().strip_prefix(project)?.as_os_str().as_encoded_bytes());
            hasher.update(Sha256::digest(std::fs::read(entry.path())?));
        }
    }
    Ok(hex::encode(&hasher.finalize()[..8]))
}
