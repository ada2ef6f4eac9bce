//! `grid-runner install DIR`: copies this binary to where a toolchain image's container can start it, and makes the directory
//! that its commands get theirs in.
//!
//! It is what an init container runs, as the worker's user, in an image that holds nothing else: no shell and no `cp`.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;

/// Copies the running binary to `directory`/grid-runner, executable for everybody, and makes `build_dir`, which only its
/// maker writes in.
///
/// # Errors
/// Where one of them can't be written.
pub fn install(directory: &Path, build_dir: Option<&Path>) -> anyhow::Result<()> {
    if let Some(build) = build_dir {
        let make = || -> std::io::Result<()> {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(build)?;
            // Whatever the mask, and though it was there already. Its group is handed on as before.
            let mode = std::fs::metadata(build)?.permissions().mode();
            std::fs::set_permissions(build, PermissionsExt::from_mode((mode | 0o755) & !0o022))
        };
        make().with_context(|| format!("making {} for the worker alone", build.display()))?;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_directory_is_its_makers_to_write_in() {
        let dir = tempfile::tempdir().unwrap();
        // What a mount would have made.
        let build = dir.path().join("grid/build");
        std::fs::create_dir_all(&build).unwrap();
        std::fs::set_permissions(&build, PermissionsExt::from_mode(0o2777)).unwrap();
        install(&dir.path().join("bin"), Some(&build)).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&build), 0o2755, "{:o}", mode(&build));
        assert_eq!(mode(&dir.path().join("bin/grid-runner")), 0o555);
    }
}
