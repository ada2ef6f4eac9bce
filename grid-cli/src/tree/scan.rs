//! Reads a directory from disk into the blobs that make it up.

use std::collections::HashMap;
use std::fs::{self, DirEntry, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use grid_core::{Digest, DigestFunction, Hasher};
use grid_proto::reapi;

use crate::digests;
use crate::exit::Failure;
use crate::transfer::{Source, Uploads};

/// Piece in which files are hashed.
const PIECE: usize = 256 << 10;

/// A directory as blobs.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Digest of the root `Directory`.
    pub(crate) root: Digest,
    /// All files and `Directory` messages.
    pub(crate) blobs: Uploads,
}

/// Reads the directory at `root`. Symbolic links stay links; anything that is neither file, directory nor
/// link is refused.
pub(crate) async fn scan(root: &Path, function: DigestFunction) -> Result<Scan, Failure> {
    let folder = root.to_path_buf();
    let listing = blocking(move || list(&folder)).await?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let files = listing.iter().flat_map(|folder| &folder.files).map(|file| file.path.clone());
    let hashed: HashMap<PathBuf, Digest> = stream::iter(files.map(|path| async move {
        let digest = hash_file(path.clone(), function).await?;
        Ok::<_, Failure>((path, digest))
    }))
    .buffer_unordered(threads)
    .try_collect()
    .await?;
    Ok(assemble(listing, &hashed, function))
}

/// The digest of the file at `path`.
pub(crate) async fn hash_file(path: PathBuf, function: DigestFunction) -> Result<Digest, Failure> {
    blocking(move || {
        let told = |error| Failure::path("read", &path, error);
        let mut file = File::open(&path).map_err(told)?;
        let mut hasher = Hasher::new(function);
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece).map_err(told)? {
                0 => return Ok(hasher.finish()),
                length => hasher.update(&piece[..length]),
            }
        }
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| Err(Failure::local("read files", error.into())))
}

/// What one folder holds.
#[derive(Debug, Default)]
struct Folder {
    files: Vec<FoundFile>,
    links: Vec<reapi::SymlinkNode>,
    /// Name, and place in the listing.
    folders: Vec<(String, usize)>,
}

#[derive(Debug)]
struct FoundFile {
    name: String,
    path: PathBuf,
    executable: bool,
}

/// All folders below `root`; each comes before those inside it.
fn list(root: &Path) -> Result<Vec<Folder>, Failure> {
    let mut listing = vec![Folder::default()];
    let mut paths = vec![root.to_path_buf()];
    let mut next = 0;
    while next < paths.len() {
        let path = paths[next].clone();
        for entry in fs::read_dir(&path).map_err(|error| Failure::path("list", &path, error))? {
            let entry = entry.map_err(|error| Failure::path("list", &path, error))?;
            let name = utf8(entry.file_name().into_string().ok(), &entry.path())?;
            let kind = entry.file_type().map_err(|error| Failure::path("read", &entry.path(), error))?;
            if kind.is_dir() {
                listing[next].folders.push((name, paths.len()));
                paths.push(entry.path());
                listing.push(Folder::default());
            } else {
                add(&mut listing[next], name, &entry)?;
            }
        }
        next += 1;
    }
    Ok(listing)
}

fn add(folder: &mut Folder, name: String, entry: &DirEntry) -> Result<(), Failure> {
    let path = entry.path();
    let metadata = entry.metadata().map_err(|error| Failure::path("read", &path, error))?;
    if metadata.is_symlink() {
        let target = fs::read_link(&path).map_err(|error| Failure::path("read", &path, error))?;
        let target = utf8(target.into_os_string().into_string().ok(), &path)?;
        folder.links.push(reapi::SymlinkNode { name, target, node_properties: None });
    } else if metadata.is_file() {
        let executable = metadata.permissions().mode() & 0o111 != 0;
        folder.files.push(FoundFile { name, path, executable });
    } else {
        let text = format!("{}: is neither a file, a directory nor a symbolic link", path.display());
        return Err(Failure::Usage(text));
    }
    Ok(())
}

fn utf8(text: Option<String>, path: &Path) -> Result<String, Failure> {
    text.ok_or_else(|| {
        Failure::Usage(format!(
            "{}: its name or target is not UTF-8, which the protocol asks for",
            path.display()
        ))
    })
}

/// Makes the messages, from the innermost folders outwards.
fn assemble(listing: Vec<Folder>, hashed: &HashMap<PathBuf, Digest>, function: DigestFunction) -> Scan {
    let mut blobs = Uploads::new();
    let mut done: HashMap<usize, Digest> = HashMap::new();
    for (index, folder) in listing.into_iter().enumerate().rev() {
        let mut directory = reapi::Directory { symlinks: folder.links, ..Default::default() };
        for file in folder.files {
            let Some(digest) = hashed.get(&file.path).copied() else { continue };
            directory.files.push(reapi::FileNode {
                name: file.name,
                digest: Some(digests::to_wire(&digest)),
                is_executable: file.executable,
                node_properties: None,
            });
            blobs.entry(digest).or_insert(Source::File(file.path));
        }
        for (name, inner) in folder.folders {
            let digest = done.get(&inner).map(digests::to_wire);
            directory.directories.push(reapi::DirectoryNode { name, digest });
        }
        // The canonical form (REAPI, `Directory`): each list sorted by name.
        directory.files.sort_by(|a, b| a.name.cmp(&b.name));
        directory.directories.sort_by(|a, b| a.name.cmp(&b.name));
        directory.symlinks.sort_by(|a, b| a.name.cmp(&b.name));
        done.insert(index, insert_message(&mut blobs, &directory, function));
    }
    let root = done.get(&0).copied().unwrap_or_else(|| Digest::of(function, &[]));
    Scan { root, blobs }
}

/// Adds `message` to `blobs`, and gives its digest.
pub(crate) fn insert_message<M: prost::Message>(
    blobs: &mut Uploads,
    message: &M,
    function: DigestFunction,
) -> Digest {
    let content = message.encode_to_vec();
    let digest = Digest::of(function, &content);
    blobs.entry(digest).or_insert(Source::Bytes(content.into()));
    digest
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use prost::Message as _;

    use super::*;

    fn message(scan: &Scan, digest: &Digest) -> reapi::Directory {
        match &scan.blobs[digest] {
            Source::Bytes(bytes) => reapi::Directory::decode(bytes.clone()).unwrap(),
            Source::File(path) => panic!("{} is no message", path.display()),
        }
    }

    #[tokio::test]
    async fn a_directory_becomes_its_canonical_tree() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("sub/empty")).unwrap();
        fs::write(at("b.txt"), "same").unwrap();
        fs::write(at("a.txt"), "same").unwrap();
        fs::write(at("sub/run"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(at("sub/run"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("../missing", at("link")).unwrap();

        let scan = scan(folder.path(), DigestFunction::Sha256).await.unwrap();
        let root = message(&scan, &scan.root);
        let names: Vec<_> = root.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["a.txt", "b.txt"]);
        assert_eq!(root.symlinks[0].target, "../missing");
        let digest = digests::from_wire(DigestFunction::Sha256, root.directories[0].digest.as_ref().unwrap());
        let sub = message(&scan, &digest.unwrap());
        assert!(sub.files[0].is_executable && !root.files[0].is_executable);
        // Two contents, and three different directories, the empty one with the empty digest.
        assert_eq!(scan.blobs.len(), 5);
        assert_eq!(sub.directories[0].digest.as_ref().unwrap().size_bytes, 0);
    }

    #[tokio::test]
    async fn a_socket_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        let error = scan(folder.path(), DigestFunction::Sha256).await.unwrap_err();
        assert!(error.to_string().contains("socket"), "{error}");
    }
}
