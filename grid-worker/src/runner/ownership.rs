//! Inputs that a command must own: copied for it, as reflinks where the file system has them.
//!
//! Staged files are links to the worker's cache and belong to the worker; a command can read and replace them, but
//! neither write to them nor change their modes. Builds that treat the whole root as theirs, as BuildStream's do,
//! ask for a user id, and get a root that is that user's. Neighbour: `supervise` calls it before it starts the
//! command, as its only thread: so no file that is still open for writing gets into another process. Blocking.

use std::fs::{
    DirBuilder, File, FileTimes, Metadata, OpenOptions, read_dir, read_link, remove_dir, remove_file, rename,
};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::ioctl_ficlone;
use rustix::process::geteuid;

/// Makes all below `root` this process's own. What is already is left alone.
pub(super) fn take(root: &Path) -> io::Result<()> {
    let own = geteuid().as_raw();
    let fresh = root.join(format!(".own-{}", std::process::id()));
    for entry in read_dir(root)? {
        let path = entry?.path();
        let found = path.symlink_metadata()?;
        if found.uid() != own {
            copy(&path, &found, &fresh)?;
            remove(&path, &found)?;
            rename(&fresh, &path)?;
        }
    }
    Ok(())
}

/// Copies what is at `from` to `to`; a directory with all that is in it, which leaves it empty.
fn copy(from: &Path, found: &Metadata, to: &Path) -> io::Result<()> {
    if found.is_dir() {
        DirBuilder::new().mode(0o755).create(to)?;
        for entry in read_dir(from)? {
            let entry = entry?;
            let (path, found) = (entry.path(), entry.metadata()?);
            copy(&path, &found, &to.join(entry.file_name()))?;
            remove(&path, &found)?;
        }
        // Last of all, for every entry that is made changes it.
        File::open(to)?.set_times(FileTimes::new().set_modified(found.modified()?))
    } else if found.is_symlink() {
        symlink(read_link(from)?, to)
    } else {
        copy_file(from, found, to)
    }
}

fn copy_file(from: &Path, found: &Metadata, to: &Path) -> io::Result<()> {
    // As if the command had made it: what is read-only in the cache is not so here.
    let mode = found.permissions().mode() & 0o777 | 0o200;
    let mut source = File::open(from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?;
    if ioctl_ficlone(&target, &source).is_err() {
        io::copy(&mut source, &mut target)?;
    }
    target.set_times(FileTimes::new().set_modified(found.modified()?))
}

fn remove(path: &Path, found: &Metadata) -> io::Result<()> {
    if found.is_dir() { remove_dir(path) } else { remove_file(path) }
}
