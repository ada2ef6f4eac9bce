//! `grid-runner install DIR`: copies this binary to where a toolchain image's container can start it.
//!
//! It is what an init container runs, in an image that holds nothing else: no shell and no `cp`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;

/// Copies the running binary to `directory`/grid-runner, executable for everybody.
///
/// # Errors
/// Where the directory can't be written.
pub fn install(directory: &Path) -> anyhow::Result<()> {
    let target = directory.join("grid-runner");
    let partial = directory.join(".grid-runner.partial");
    let copy = || -> std::io::Result<()> {
        std::fs::create_dir_all(directory)?;
        std::fs::copy("/proc/self/exe", &partial)?;
        std::fs::set_permissions(&partial, PermissionsExt::from_mode(0o555))?;
        // Renamed, so that a runner that is already running keeps its file and none ever sees half of one.
        std::fs::rename(&partial, &target)
    };
    copy().with_context(|| format!("installing {}", target.display()))
}
