//! Which file `arguments[0]` means (REAPI `Command.arguments`, since 2.3).
//!
//! An absolute path is itself, a path with a slash is relative to the working directory, and a bare name is
//! looked for in the directories of `PATH`. Neighbour: `supervise` executes what is found.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::runner_protocol::{NOT_EXECUTABLE, NOT_FOUND};

/// Where bare names are looked for when neither the command nor the image's environment has a `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Why there is nothing to execute: the exit code that a shell would give, and the text for the client.
#[derive(Debug, PartialEq)]
pub(super) struct NotFound {
    pub(super) code: i32,
    pub(super) reason: String,
}

/// The path to execute for `name`, to be used with `directory` as the working directory.
///
/// A path with a slash stays as it was given, so that a script sees its own name as the client wrote it.
pub(super) fn program(name: &str, path: Option<&str>, directory: &Path) -> Result<PathBuf, NotFound> {
    if name.is_empty() {
        return Err(NotFound { code: NOT_FOUND, reason: "arguments[0] is empty".to_owned() });
    }
    if name.contains('/') {
        return check(name, &directory.join(name)).map(|()| PathBuf::from(name));
    }
    let path = path.filter(|p| !p.is_empty()).unwrap_or(DEFAULT_PATH);
    let mut denied = None;
    for entry in path.split(':') {
        // An empty entry means the working directory, as for execvp.
        let candidate =
            if entry.is_empty() { Path::new(".").join(name) } else { Path::new(entry).join(name) };
        match check(name, &directory.join(&candidate)) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.code == NOT_EXECUTABLE => denied = denied.or(Some(error)),
            Err(_) => {}
        }
    }
    Err(denied.unwrap_or_else(|| NotFound {
        code: NOT_FOUND,
        reason: format!("{name}: not found in PATH ({path})"),
    }))
}

fn check(name: &str, file: &Path) -> Result<(), NotFound> {
    let Ok(metadata) = std::fs::metadata(file) else {
        return Err(NotFound { code: NOT_FOUND, reason: format!("{name}: no such file") });
    };
    if !metadata.is_file() {
        return Err(NotFound { code: NOT_EXECUTABLE, reason: format!("{name}: not a regular file") });
    }
    match access(file, Access::EXEC_OK) {
        Ok(()) => Ok(()),
        Err(_) => Err(NotFound {
            code: NOT_EXECUTABLE,
            reason: format!("{name}: not executable; is the input's executable bit set?"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in [("bin/tool", 0o755), ("bin/data", 0o644), ("other/data", 0o755), ("here", 0o755)]
        {
            let file = dir.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "x").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        dir
    }

    #[test]
    fn paths_with_a_slash_are_relative_to_the_working_directory() {
        let dir = tree();
        assert_eq!(program("bin/tool", Some("/nowhere"), dir.path()), Ok("bin/tool".into()));
        assert_eq!(program("./here", None, dir.path()), Ok("./here".into()));
        assert_eq!(program("tool/", None, dir.path()).unwrap_err().code, NOT_FOUND);
        assert_eq!(program("bin/data", None, dir.path()).unwrap_err().code, NOT_EXECUTABLE);
        assert_eq!(program("./bin", None, dir.path()).unwrap_err().code, NOT_EXECUTABLE);
    }

    #[test]
    fn bare_names_are_looked_for_in_path_only() {
        let dir = tree();
        assert_eq!(program("here", Some("/nowhere"), dir.path()).unwrap_err().code, NOT_FOUND);
        assert_eq!(program("here", Some("/nowhere:"), dir.path()), Ok("./here".into()));
        assert_eq!(program("tool", Some("bin"), dir.path()), Ok("bin/tool".into()));
        assert_eq!(
            program("data", Some("bin:other"), dir.path()),
            Ok("other/data".into()),
            "skips the denied one"
        );
        assert_eq!(program("data", Some("bin"), dir.path()).unwrap_err().code, NOT_EXECUTABLE);
        assert!(program("sh", None, dir.path()).is_ok(), "a default PATH");
    }
}
