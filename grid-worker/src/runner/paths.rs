//! The paths of a `RunRequest`, resolved beneath the build directory.
//!
//! Buildbarn's protocol gives every path relative to the build directory, the working directory relative to
//! the input root. A path that is absolute or climbs is refused: the runner acts for whoever may call it, but
//! only there. Neighbour: `service`.

use std::path::{Component, Path, PathBuf};

use thiserror::Error;

/// A path that can't be one of a request. The message is fit for the caller.
#[derive(Debug, Error, PartialEq)]
#[error("{field} is {path:?}; a relative path without \"..\" is needed")]
pub(super) struct BadPath {
    field: &'static str,
    path: String,
}

/// `base`/`path`, where `path` stays below `base`. An empty path is `base` itself.
pub(super) fn below(base: &Path, field: &'static str, path: &str) -> Result<PathBuf, BadPath> {
    let sound = Path::new(path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if sound && !path.contains('\0') {
        Ok(base.join(path))
    } else {
        Err(BadPath { field, path: path.chars().take(200).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out_of_the_base() {
        let base = Path::new("/build");
        for path in ["/etc", "../x", "a/../../x", "a/..", "a\0b"] {
            assert!(below(base, "stdout_path", path).is_err(), "{path:?}");
        }
        assert_eq!(below(base, "stdout_path", "a/./b"), Ok("/build/a/./b".into()));
        assert_eq!(below(base, "working_directory", "").unwrap(), Path::new("/build"));
    }
}
