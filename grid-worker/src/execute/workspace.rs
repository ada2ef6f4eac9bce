//! The directory of an action: `build/NAME/{root,tmp,logs}`.
//!
//! Its name comes from the action, so that a path which finds its way into an output is the same wherever the
//! action runs. The directory is the worker's; what is in it is open to the runner's user. Neighbours: `stage`
//! fills it, `janitor` removes it, whatever way the action ends.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use grid_core::Digest;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::directory_name;
use super::janitor::Janitor;
use crate::error::WorkerError;
use crate::stage::layout::make_directory;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The most directories of one action at a time: equal actions that run at once, and remains that can't be
/// removed yet.
const MOST_ALIKE: usize = 1_000;

/// Where actions get their directories.
#[derive(Clone, Debug)]
pub struct Workspaces {
    build: PathBuf,
    janitor: Janitor,
}

/// A directory for one action; removed when dropped.
#[derive(Debug)]
pub struct Workspace {
    name: String,
    path: PathBuf,
    root: Arc<OwnedFd>,
    janitor: Janitor,
}

impl Drop for Workspace {
    fn drop(&mut self) {
        self.janitor.remove(std::mem::take(&mut self.path));
    }
}

impl Workspaces {
    /// Workspaces in `build`.
    #[must_use]
    pub fn new(build: &Path, janitor: Janitor) -> Self {
        Self { build: build.to_owned(), janitor }
    }

    /// Makes the directory of an action.
    ///
    /// # Errors
    /// [`WorkerError::Local`].
    pub fn create(&self, action: &Digest) -> Result<Workspace, WorkerError> {
        let stem = directory_name(action);
        for number in 0..MOST_ALIKE {
            let name = if number == 0 { stem.clone() } else { format!("{stem}-{number}") };
            match std::fs::create_dir(self.build.join(&name)) {
                Ok(()) => return self.furnish(name),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(WorkerError::local("making an action's directory", error)),
            }
        }
        Err(WorkerError::Internal(format!("{MOST_ALIKE} directories of {stem} are left over")))
    }

    fn furnish(&self, name: String) -> Result<Workspace, WorkerError> {
        let path = self.build.join(&name);
        let made = || -> rustix::io::Result<OwnedFd> {
            let top = openat(CWD, &path, DIRECTORY, Mode::empty())?;
            rustix::fs::fchmod(&top, Mode::from_raw_mode(0o755))?;
            make_directory(&top, "tmp")?;
            make_directory(&top, "logs")?;
            make_directory(&top, "root")
        };
        match made() {
            Ok(root) => Ok(Workspace { name, path, root: Arc::new(root), janitor: self.janitor.clone() }),
            Err(error) => {
                self.janitor.remove(path);
                Err(WorkerError::local("making an action's directory", error))
            }
        }
    }
}

impl Workspace {
    /// The open input root.
    #[must_use]
    pub fn root(&self) -> Arc<OwnedFd> {
        self.root.clone()
    }

    /// The workspace's own path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in the workspace as the runner knows it: relative to the build directory.
    #[must_use]
    pub fn below(&self, path: &str) -> String {
        format!("{}/{path}", self.name)
    }
}

/// Makes directory `path` below `root`, with all that lead to it; what is there already stays.
///
/// # Errors
/// [`WorkerError::Invalid`] where an input that is no directory is in the way.
pub fn make_parents(root: &OwnedFd, path: &Path) -> Result<(), WorkerError> {
    let failed = |error: Errno| WorkerError::local(format!("making {}", path.display()), error);
    let mut directory = root.try_clone().map_err(|error| WorkerError::local("the input root", error))?;
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        directory = match openat(&directory, name, DIRECTORY, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => make_directory(&directory, &name.to_string_lossy()).map_err(failed)?,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(WorkerError::Invalid(format!(
                    "{} is to be a directory, and the input root has something else there",
                    path.display()
                )));
            }
            Err(error) => return Err(failed(error)),
        };
    }
    Ok(())
}
