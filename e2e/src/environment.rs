//! Where things are: the checkout, the caches, the binaries and images under test.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The checkout's top folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The folder that keeps what is costly to make again; xtask says which.
///
/// # Errors
/// Where neither `GRID_CACHE` nor `HOME` is set.
pub(crate) fn cache() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("GRID_CACHE") {
        return Ok(dir.into());
    }
    let home = std::env::var_os("HOME").context("set HOME or GRID_CACHE: one says where caches are")?;
    Ok(Path::new(&home).join(".cache/grid-operator"))
}

/// The folder of the binaries under test: static ones that xtask builds, or what `GRID_BINARIES` names.
///
/// # Errors
/// Where they have not been built.
pub(crate) fn binaries() -> Result<PathBuf> {
    let target = format!("target/{}-unknown-linux-gnu/e2e", std::env::consts::ARCH);
    let dir = std::env::var_os("GRID_BINARIES")
        .map_or_else(|| Ok(cache()?.join(target)), |d| anyhow::Ok(d.into()))?;
    anyhow::ensure!(
        dir.join("grid-server").is_file(),
        "{} has no grid-server: run `cargo xtask images --profile e2e` first",
        dir.display()
    );
    Ok(dir)
}

/// The archive of an image under test.
///
/// # Errors
/// Where it has not been made.
pub(crate) fn image(name: &str) -> Result<PathBuf> {
    let archive = cache()?.join("images").join(format!("{name}.tar"));
    anyhow::ensure!(
        archive.is_file(),
        "{} is missing: run `cargo xtask images --profile e2e` first, and for images of tests alone `cargo xtask test-images`",
        archive.display()
    );
    Ok(archive)
}

/// The version of what is under test: the tag of its images.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
