//! The directory of an action: `build/NAME/{root,tmp,logs}`.
//!
//! Its name comes from the action, so that a path which finds its way into an output is the same wherever the
//! action runs. The directory is the worker's; what is in it is open to the runner's user. Neighbours: `staging`
//! fills it and may keep its input root, `janitor` removes it, whatever way the action ends.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use grid_core::Digest;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Dir, Mode, OFlags, RenameFlags, mkdirat, openat, renameat, renameat_with};
use rustix::io::Errno;

use super::directory_name;
use super::janitor::Janitor;
use crate::error::WorkerError;
use crate::removal::remove_tree;
use crate::stage::layout::make_directory;
use crate::stage::spare::Place;
use crate::upload::collect::follow_beneath;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FOLLOWING: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);
/// The input root's name in it.
const ROOT: &str = "root";
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
        // One that has retired is somebody else's.
        if !self.path.as_os_str().is_empty() {
            self.janitor.remove(std::mem::take(&mut self.path));
        }
    }
}

impl Workspaces {
    /// Workspaces in `build`.
    #[must_use]
    pub fn new(build: &Path, janitor: Janitor) -> Self {
        Self { build: build.to_owned(), janitor }
    }

    /// Makes the directory of an action, with an empty input root, or out of `spare`, which holds one.
    ///
    /// # Errors
    /// [`WorkerError::Local`].
    pub fn create(&self, action: &Digest, spare: Option<&Place>) -> Result<Workspace, WorkerError> {
        let stem = directory_name(action);
        for number in 0..MOST_ALIKE {
            let name = if number == 0 { stem.clone() } else { format!("{stem}-{number}") };
            let path = self.build.join(&name);
            let made = match spare {
                None => mkdirat(CWD, &path, Mode::from_raw_mode(0o755)),
                Some(spare) => renameat_with(CWD, spare.path(), CWD, &path, RenameFlags::NOREPLACE),
            };
            match made {
                Ok(()) => return self.furnish(name, path, spare.is_some()),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(WorkerError::local("making an action's directory", error)),
            }
        }
        Err(WorkerError::Internal(format!("{MOST_ALIKE} directories of {stem} are left over")))
    }

    fn furnish(&self, name: String, path: PathBuf, has_root: bool) -> Result<Workspace, WorkerError> {
        let made = || -> rustix::io::Result<OwnedFd> {
            let top = openat(CWD, &path, DIRECTORY, Mode::empty())?;
            make_directory(&top, "tmp")?;
            make_directory(&top, "logs")?;
            if has_root { openat(&top, ROOT, DIRECTORY, Mode::empty()) } else { make_directory(&top, ROOT) }
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

    /// Moves the directory to where no command gets at it, with nothing in it but the input root; gives that.
    /// Blocking.
    ///
    /// # Errors
    /// Where something of the command can't be removed; `place` removes the rest then.
    pub fn retire(mut self, place: &Place) -> std::io::Result<OwnedFd> {
        renameat(CWD, &self.path, CWD, place.path())?;
        self.path = PathBuf::new();
        let top = openat(CWD, place.path(), DIRECTORY, Mode::empty())?;
        for entry in Dir::read_from(&top)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." && name != ROOT.as_bytes() {
                remove_tree(&top, Path::new(OsStr::from_bytes(name)))?;
            }
        }
        self.root.try_clone()
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
    let mut walked = PathBuf::new();
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        walked.push(name);
        directory = match openat(&directory, name, DIRECTORY, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => make_directory(&directory, &name.to_string_lossy()).map_err(failed)?,
            // Perhaps a link to a directory of the input root.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                follow_beneath(root, &walked, FOLLOWING).map_err(|error| match error {
                    Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => {
                        WorkerError::Invalid(format!(
                            "{} is to be a directory, and the input root has something else there",
                            path.display()
                        ))
                    }
                    error => failed(error),
                })?
            }
            Err(error) => return Err(failed(error)),
        };
    }
    Ok(())
}
