//! Where things are: the checkout, and the caches outside it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The checkout's top folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The folder that keeps what is costly to make again: `$GRID_CACHE`, else `~/.cache/grid-operator`.
///
/// # Errors
/// Where neither `GRID_CACHE` nor `HOME` is set, or the folder can't be made.
pub(crate) fn cache() -> Result<PathBuf> {
    let dir = match std::env::var_os("GRID_CACHE") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let home =
                std::env::var_os("HOME").context("set HOME or GRID_CACHE: one says where caches go")?;
            Path::new(&home).join(".cache/grid-operator")
        }
    };
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("can't make the cache folder {}", dir.display()))?;
    Ok(dir)
}

/// The build folder for everything that xtask builds: outside the checkout, so that a fresh clone is warm.
///
/// # Errors
/// As [`cache`].
pub(crate) fn target() -> Result<PathBuf> {
    Ok(cache()?.join("target"))
}

/// The version of the product, as the workspace says.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
