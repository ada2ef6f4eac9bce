//! [`Isolation`]: what keeps a command apart from the rest of the runner's container, and [`Enclosure`]: that for
//! one command.
//!
//! Neighbours: `service` makes enclosures from requests, `enclose` enters them, `serve` tries at the start whether
//! that is possible. A request that asks for what the mode can't give is refused: a command never runs less
//! isolated, or as another user, than was asked for.

use std::fs::{DirBuilder, remove_dir, remove_dir_all, symlink_metadata};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How commands are kept apart.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// As processes of the container, which see its files, its network and each other.
    Plain,
    /// With the input root as `/`, in user, mount, IPC and network namespaces of their own, as bubblewrap would make
    /// them; no program of the image is needed for it.
    Bubblewrap,
    /// With the input root as `/`, as a user of their own; the runner must be root with the capabilities
    /// `SYS_CHROOT`, `SETUID`, `SETGID`, `MKNOD`, `FOWNER` and `KILL`.
    Chroot,
}

/// Directories that an enclosed command finds in its root.
pub(crate) const POINTS: [&str; 3] = ["proc", "dev", "tmp"];

/// What one command is enclosed in.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Enclosure {
    /// How; never [`Isolation::Plain`].
    pub(crate) isolation: Isolation,
    /// The directory that becomes `/`.
    pub(crate) root: PathBuf,
    /// The directory that becomes `/tmp`, where it can be mounted.
    pub(crate) temporary: PathBuf,
    /// Whether it has the container's network.
    pub(crate) network: bool,
    /// Its user and group ids, as it sees them.
    pub(crate) uid: u32,
    /// See `uid`.
    pub(crate) gid: u32,
    /// Whether it owns its inputs, which are copied for it then.
    pub(crate) owns_inputs: bool,
}

impl Enclosure {
    /// Makes the directories that the enclosed command needs and the input root hasn't got.
    ///
    /// # Errors
    /// [`NotPrepared`].
    pub(crate) fn prepare(&self) -> Result<Points, NotPrepared> {
        let mut points = Points { made: Vec::new() };
        for name in POINTS {
            if self.isolation == Isolation::Chroot && name == "proc" {
                continue;
            }
            let point = self.root.join(name);
            match symlink_metadata(&point) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(NotPrepared::InTheWay(name)),
                Err(_) => {
                    DirBuilder::new().mode(0o777).create(&point)?;
                    points.made.push(point);
                }
            }
        }
        Ok(points)
    }
}

/// Why an input root can't become a root.
#[derive(Debug, Error)]
pub(crate) enum NotPrepared {
    /// The client's inputs don't allow it.
    #[error(
        "the input root has something at /{0} that is no directory; where the input root is the command's /, \
         /proc, /dev and /tmp must be directories or be left out"
    )]
    InTheWay(&'static str),
    /// The disk fails.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// Directories that were made for an enclosure; what it left in them goes with them.
#[derive(Debug)]
pub(crate) struct Points {
    made: Vec<PathBuf>,
}

impl Points {
    /// Removes them, so that no output holds them.
    pub(crate) fn remove(self) {
        for point in &self.made {
            if let Err(error) = remove(point) {
                tracing::debug!(%error, path = %point.display(), "what was made for a command stays");
            }
        }
    }
}

/// A command could have put something else in its place.
fn remove(point: &Path) -> io::Result<()> {
    if symlink_metadata(point)?.is_dir() {
        remove_dir(point).or_else(|_| remove_dir_all(point))
    } else {
        Ok(())
    }
}
