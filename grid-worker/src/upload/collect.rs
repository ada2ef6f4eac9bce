//! Looks at a command's outputs, hashes them, and describes them. Blocking.
//!
//! The command is another user's and hostile for all we know: paths are resolved by the kernel beneath the
//! input root (`openat2`), no final link is followed, nothing but regular files is opened for reading, and
//! what is neither file, directory nor link is refused without being opened. Neighbours: `declared` says where
//! to look, `send` uploads.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use grid_core::{Digest, DigestFunction, Hasher};
use grid_proto::reapi;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, readlinkat};
use rustix::io::Errno;

use super::declared::{Declared, Kind, Output};
use super::tree::TreeBuilder;
use super::{Blob, Content};
use crate::cas::client::to_wire;
use crate::error::WorkerError;
use crate::made_mode;

/// Files up to this size are kept in memory between hashing and upload.
const SMALL_FILE: u64 = 256 << 10;
/// The most bytes of small files of one action in memory.
const SMALL_FILES: u64 = 64 << 20;
/// The deepest output directory.
const MOST_LEVELS: usize = 512;
/// Nothing outside of the root is reached by a path.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
/// How often the kernel is asked for a path on whose way something is renamed.
const MOST_RACES: usize = 10_000;

/// What a command made.
#[derive(Debug, Default)]
pub struct Collected {
    /// The outputs' part of the result.
    pub result: reapi::ActionResult,
    /// The blobs that the result names.
    pub blobs: Vec<Blob>,
}

/// Looks at all declared outputs below `root`. Outputs that are not there are left out, as REAPI says; of a command that
/// `failed` also those that can't be described, for how it failed must be told.
///
/// # Errors
/// [`WorkerError::Invalid`] naming an output that can't be described, [`WorkerError::Local`].
pub fn collect(
    root: &OwnedFd,
    declared: &Declared,
    function: DigestFunction,
    failed: bool,
) -> Result<Collected, WorkerError> {
    let mut walk = Walk { root, declared, function, in_memory: 0, collected: Collected::default() };
    for output in &declared.outputs {
        match walk.output(output) {
            Err(WorkerError::Invalid(reason)) if failed => {
                tracing::info!(reason, "an output of a command that failed is left out");
            }
            walked => walked?,
        }
    }
    Ok(walk.collected)
}

/// Opens a path below `root`, never above it and never through a final link.
///
/// # Errors
/// The system's own; EXDEV where a link leads out of the root.
pub fn open_beneath(root: impl AsFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path == Path::new("") { Path::new(".") } else { path };
    follow_beneath(root, path, flags | OFlags::NOFOLLOW)
}

/// As [`open_beneath`], through a final link too.
///
/// # Errors
/// See there.
pub(crate) fn follow_beneath(root: impl AsFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let open = || openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), BENEATH);
    // The kernel gives up at a `..` while anything of the machine is renamed or mounted, and asks to be asked again.
    let raced = |opened: &rustix::io::Result<OwnedFd>| matches!(opened, Err(Errno::AGAIN));
    (1..MOST_RACES).map(|_| open()).find(|opened| !raced(opened)).unwrap_or_else(open)
}

struct Walk<'a> {
    root: &'a OwnedFd,
    declared: &'a Declared,
    function: DigestFunction,
    in_memory: u64,
    collected: Collected,
}

/// A directory that is being walked.
struct Level {
    name: String,
    location: PathBuf,
    entries: Vec<String>,
    message: reapi::Directory,
}

impl Walk<'_> {
    fn output(&mut self, output: &Output) -> Result<(), WorkerError> {
        let fd = match open_beneath(self.root, &output.location, OFlags::PATH) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(Errno::XDEV | Errno::LOOP) => {
                return Err(refused(&output.location, "leads out of the input root"));
            }
            Err(error) => return Err(failed(&output.location, error)),
        };
        let stat = fstat(&fd).map_err(|error| failed(&output.location, error))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if output.kind == Kind::Directory => {
                Err(refused(&output.location, "is declared as a directory and is a file"))
            }
            FileType::Directory if output.kind == Kind::File => {
                Err(refused(&output.location, "is declared as a file and is a directory"))
            }
            FileType::RegularFile => {
                let digest = self.file(&output.location)?;
                self.collected.result.output_files.push(reapi::OutputFile {
                    path: output.path.clone(),
                    digest: Some(to_wire(&digest)),
                    is_executable: executable(&stat),
                    node_properties: self.properties(fd.as_fd(), &stat),
                    ..Default::default()
                });
                Ok(())
            }
            FileType::Directory => self.directory(output),
            FileType::Symlink => self.link(output, &fd, &stat),
            other => Err(refused(&output.location, kind_name(other))),
        }
    }

    fn link(&mut self, output: &Output, fd: &OwnedFd, stat: &Stat) -> Result<(), WorkerError> {
        let symlink = reapi::OutputSymlink {
            path: output.path.clone(),
            target: target(fd, &output.location)?,
            node_properties: self.properties(fd.as_fd(), stat),
        };
        let result = &mut self.collected.result;
        // Clients of REAPI 2.0 look for links in the deprecated fields.
        match output.kind {
            Kind::Any => {}
            Kind::File => result.output_file_symlinks.push(symlink.clone()),
            Kind::Directory => result.output_directory_symlinks.push(symlink.clone()),
        }
        result.output_symlinks.push(symlink);
        Ok(())
    }

    fn directory(&mut self, output: &Output) -> Result<(), WorkerError> {
        let mut tree = TreeBuilder::new(self.function);
        let mut open = vec![self.enter(String::new(), output.location.clone())?];
        while let Some(level) = open.last_mut() {
            if let Some(name) = level.entries.pop() {
                let location = level.location.join(&name);
                if self.entry(level, &name, &location)? {
                    if open.len() == MOST_LEVELS {
                        return Err(refused(&location, "lies too deep"));
                    }
                    let below = self.enter(name, location)?;
                    open.push(below);
                }
            } else if let Some(done) = open.pop() {
                let digest = tree.add(done.message);
                if let Some(parent) = open.last_mut() {
                    let node = reapi::DirectoryNode { name: done.name, digest: Some(to_wire(&digest)) };
                    parent.message.directories.push(node);
                }
            }
        }
        let (described, blobs) =
            tree.finish(output.path.clone(), self.declared.trees, self.declared.directories);
        self.collected.result.output_directories.push(described);
        self.collected.blobs.extend(blobs);
        Ok(())
    }

    fn enter(&self, name: String, location: PathBuf) -> Result<Level, WorkerError> {
        let fd = open_beneath(self.root, &location, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|error| failed(&location, error))?;
        let stat = fstat(&fd).map_err(|error| failed(&location, error))?;
        let node_properties = self.properties(fd.as_fd(), &stat);
        let mut entries = Vec::new();
        for entry in Dir::new(fd).map_err(|error| failed(&location, error))? {
            let entry = entry.map_err(|error| failed(&location, error))?;
            let bytes = entry.file_name().to_bytes();
            if bytes == b"." || bytes == b".." {
                continue;
            }
            let name = std::str::from_utf8(bytes).map_err(|_| {
                let name = bytes.escape_ascii();
                refused(&location, &format!("holds an entry \"{name}\" whose name is not UTF-8"))
            })?;
            entries.push(name.to_owned());
        }
        let message = reapi::Directory { node_properties, ..reapi::Directory::default() };
        Ok(Level { name, location, entries, message })
    }

    /// Adds an entry to its directory's message; `true` where it is a directory, to be walked first.
    fn entry(&mut self, level: &mut Level, name: &str, location: &Path) -> Result<bool, WorkerError> {
        let fd = open_beneath(self.root, location, OFlags::PATH).map_err(|error| failed(location, error))?;
        let stat = fstat(&fd).map_err(|error| failed(location, error))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return Ok(true),
            FileType::RegularFile => {
                let digest = self.file(location)?;
                level.message.files.push(reapi::FileNode {
                    name: name.to_owned(),
                    digest: Some(to_wire(&digest)),
                    is_executable: executable(&stat),
                    node_properties: self.properties(fd.as_fd(), &stat),
                });
            }
            FileType::Symlink => level.message.symlinks.push(reapi::SymlinkNode {
                name: name.to_owned(),
                target: target(&fd, location)?,
                node_properties: self.properties(fd.as_fd(), &stat),
            }),
            other => return Err(refused(location, kind_name(other))),
        }
        Ok(false)
    }

    /// Hashes a file, and keeps it in memory where it is small.
    fn file(&mut self, location: &Path) -> Result<Digest, WorkerError> {
        // Non-blocking: should it have become a FIFO meanwhile, opening it must not wait for a writer.
        let fd = open_beneath(self.root, location, OFlags::RDONLY | OFlags::NONBLOCK)
            .map_err(|error| failed(location, error))?;
        let stat = fstat(&fd).map_err(|error| failed(location, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(refused(location, "changed while it was read"));
        }
        let mut file = File::from(fd);
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let (digest, content) = if size <= SMALL_FILE && self.in_memory + size <= SMALL_FILES {
            let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
            file.take(SMALL_FILE).read_to_end(&mut content).map_err(|error| failed(location, error))?;
            self.in_memory += content.len() as u64;
            let content = Bytes::from(content);
            (Digest::of(self.function, &content), Content::Memory(content))
        } else {
            let digest = hash(&mut file, self.function).map_err(|error| failed(location, error))?;
            (digest, Content::File(location.to_owned()))
        };
        self.collected.blobs.push(Blob { digest, content });
        Ok(digest)
    }

    fn properties(&self, fd: BorrowedFd<'_>, stat: &Stat) -> Option<reapi::NodeProperties> {
        let mtime = self.declared.mtime.then(|| prost_types::Timestamp {
            seconds: stat.st_mtime,
            nanos: i32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        });
        let unix_mode = self.declared.unix_mode.then(|| made_mode::of(fd, stat.st_mode));
        (mtime.is_some() || unix_mode.is_some()).then(|| reapi::NodeProperties {
            mtime,
            unix_mode,
            ..Default::default()
        })
    }
}

fn hash(file: &mut File, function: DigestFunction) -> std::io::Result<Digest> {
    let mut hasher = Hasher::new(function);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn target(link: &OwnedFd, location: &Path) -> Result<String, WorkerError> {
    let target = readlinkat(link, "", Vec::new()).map_err(|error| failed(location, error))?;
    target.into_string().map_err(|_| refused(location, "is a link whose target is not UTF-8"))
}

const fn executable(stat: &Stat) -> bool {
    stat.st_mode & 0o100 != 0
}

const fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "is a FIFO; only files, directories and links can be outputs",
        FileType::Socket => "is a socket; only files, directories and links can be outputs",
        _ => "is a device; only files, directories and links can be outputs",
    }
}

fn refused(location: &Path, why: &str) -> WorkerError {
    WorkerError::Invalid(format!("output \"{}\" {why}", location.as_os_str().as_bytes().escape_ascii()))
}

fn failed(location: &Path, error: impl Into<std::io::Error>) -> WorkerError {
    let error = error.into();
    if error.raw_os_error() == Some(Errno::NAMETOOLONG.raw_os_error()) {
        return refused(location, "lies too deep");
    }
    WorkerError::local(format!("reading output {}", location.display()), error)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn what_is_renamed_elsewhere_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/a/b")).unwrap();
        std::os::unix::fs::symlink("b/../b/../b/../b", dir.path().join("root/a/link")).unwrap();
        let root = OwnedFd::from(File::open(dir.path().join("root")).unwrap());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (one, other) = (dir.path().join("one"), dir.path().join("other"));
                std::fs::create_dir(&one).unwrap();
                while !done.load(Ordering::Relaxed) {
                    std::fs::rename(&one, &other).unwrap();
                    std::fs::rename(&other, &one).unwrap();
                }
            });
            let opened = (0..20_000).try_for_each(|_| {
                follow_beneath(&root, Path::new("a/link"), OFlags::RDONLY | OFlags::DIRECTORY).map(drop)
            });
            done.store(true, Ordering::Relaxed);
            assert_eq!(opened, Ok(()));
        });
    }
}
