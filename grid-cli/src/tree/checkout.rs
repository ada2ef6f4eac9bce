//! Writes a tree to disk.
//!
//! Names come from the network: only plain names are taken, and links are made last, so that nothing is
//! ever written through one.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use grid_core::Digest;
use grid_proto::reapi;

use crate::digests;
use crate::exit::Failure;
use crate::progress::Progress;
use crate::transfer::{Cas, Placement, Wanted};
use crate::tree::fetch::Directories;

/// Most entries that a tree may unfold to: shared subtrees can make a small tree endless.
const MAX_ENTRIES: usize = 10_000_000;

/// What a tree unfolds to below some folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The folder that everything is below.
    root: PathBuf,
    /// Folders, outer ones first.
    pub(crate) folders: Vec<PathBuf>,
    /// Files by content.
    pub(crate) files: Wanted,
    /// Links: place and target.
    pub(crate) links: Vec<(PathBuf, String)>,
}

impl Plan {
    /// Nothing yet, below `root`.
    pub(crate) fn below(root: &Path) -> Self {
        Self { root: root.to_path_buf(), ..Self::default() }
    }

    /// Unfolds `tree` below `target`.
    pub(crate) fn new(tree: &Directories, target: &Path) -> Result<Self, Failure> {
        Self::unfold(tree, target, MAX_ENTRIES)
    }

    fn unfold(tree: &Directories, target: &Path, most: usize) -> Result<Self, Failure> {
        let mut plan = Self::below(target);
        let mut open = vec![(tree.root, target.to_path_buf())];
        let mut entries = 0;
        while let Some((digest, path)) = open.pop() {
            let empty = reapi::Directory::default();
            let directory = match tree.by_digest.get(&digest) {
                Some(directory) => directory,
                None if digest.is_empty_blob() => &empty,
                None => return Err(Failure::NotFound(missing(&digest, &path))),
            };
            entries += directory.files.len() + directory.symlinks.len() + directory.directories.len();
            if entries > most {
                return Err(Failure::Data(format!("the tree has more than {most} entries")));
            }
            plan.add(directory, &digest, &path, &mut open)?;
            plan.folders.push(path);
        }
        Ok(plan)
    }

    fn add(
        &mut self,
        directory: &reapi::Directory,
        digest: &Digest,
        path: &Path,
        open: &mut Vec<(Digest, PathBuf)>,
    ) -> Result<(), Failure> {
        let function = digest.function();
        let mut names = HashSet::new();
        let mut place = |name: &str| -> Result<PathBuf, Failure> {
            let plain = !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']);
            if plain && names.insert(name.to_owned()) {
                return Ok(path.join(name));
            }
            Err(Failure::Data(format!("directory {digest} has an entry that may not be there: {name:?}")))
        };
        for file in &directory.files {
            let content = digests::required(function, file.digest.as_ref(), &file.name)?;
            let placement = Placement { path: place(&file.name)?, executable: file.is_executable };
            self.files.entry(content).or_default().push(placement);
        }
        for link in &directory.symlinks {
            self.links.push((place(&link.name)?, link.target.clone()));
        }
        for inner in &directory.directories {
            let content = digests::required(function, inner.digest.as_ref(), &inner.name)?;
            open.push((content, place(&inner.name)?));
        }
        Ok(())
    }

    /// Carries the plan out.
    pub(crate) async fn carry_out(&self, cas: &Cas, progress: &Progress) -> Result<(), Failure> {
        for folder in &self.folders {
            self.refuse_links(folder)?;
            fs::create_dir_all(folder).map_err(|error| Failure::path("create", folder, error))?;
        }
        cas.download(&self.files, progress).await?;
        for (path, target) in &self.links {
            if path.is_symlink() {
                fs::remove_file(path).map_err(|error| Failure::path("replace", path, error))?;
            }
            symlink(target, path).map_err(|error| Failure::path("create the link", path, error))?;
        }
        Ok(())
    }

    /// Refuses to go through a link between the root and `folder`, which an earlier result may have left.
    fn refuse_links(&self, folder: &Path) -> Result<(), Failure> {
        let inside = folder.ancestors().take_while(|path| *path != self.root);
        match inside.filter(|path| path.is_symlink()).last() {
            None => Ok(()),
            Some(link) => Err(Failure::path(
                "create",
                folder,
                io::Error::other(format!("{} is a link", link.display())),
            )),
        }
    }

    /// Adds all of `other`, whose root is below this one's.
    pub(crate) fn join(&mut self, other: Self) {
        self.folders.extend(other.folders);
        self.links.extend(other.links);
        for (digest, places) in other.files {
            self.files.entry(digest).or_default().extend(places);
        }
    }

    /// Number of files.
    pub(crate) fn file_count(&self) -> usize {
        self.files.values().map(Vec::len).sum()
    }
}

fn missing(digest: &Digest, path: &Path) -> String {
    format!("the server has no directory {digest}, which is to be {}", path.display())
}

#[cfg(test)]
mod tests {
    use grid_core::DigestFunction;
    use prost::Message as _;

    use super::*;

    fn tree(directories: Vec<reapi::Directory>) -> Directories {
        let digest =
            |directory: &reapi::Directory| Digest::of(DigestFunction::Sha256, &directory.encode_to_vec());
        let root = digest(&directories[0]);
        Directories { root, by_digest: directories.into_iter().map(|d| (digest(&d), d)).collect() }
    }

    fn file(name: &str) -> reapi::FileNode {
        let digest = digests::to_wire(&Digest::of(DigestFunction::Sha256, b"content"));
        reapi::FileNode { name: name.to_owned(), digest: Some(digest), ..Default::default() }
    }

    #[test]
    fn names_that_lead_outside_are_refused() {
        for name in ["", ".", "..", "a/b", "/etc", "nul\0"] {
            let root = reapi::Directory { files: vec![file(name)], ..Default::default() };
            let refused = Plan::new(&tree(vec![root]), Path::new("/t")).unwrap_err();
            assert!(matches!(refused, Failure::Data(_)), "{name:?}");
        }
        let twice = reapi::Directory {
            files: vec![file("x")],
            symlinks: vec![reapi::SymlinkNode {
                name: "x".into(),
                target: "/etc".into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        assert!(Plan::new(&tree(vec![twice]), Path::new("/t")).is_err());
    }

    #[test]
    fn equal_files_are_one_download_with_two_places() {
        let root = reapi::Directory { files: vec![file("a"), file("b")], ..Default::default() };
        let plan = Plan::new(&tree(vec![root]), Path::new("/t")).unwrap();
        assert_eq!((plan.files.len(), plan.file_count()), (1, 2));
        assert_eq!(plan.folders, [PathBuf::from("/t")]);
    }

    #[test]
    fn an_endless_unfolding_is_stopped() {
        let mut directories = vec![reapi::Directory { files: vec![file("leaf")], ..Default::default() }];
        for _ in 0..40 {
            let digest = digests::to_wire(&tree(vec![directories[0].clone()]).root);
            let node = |name: &str| reapi::DirectoryNode { name: name.into(), digest: Some(digest.clone()) };
            let wide = (0..64).map(|i| node(&i.to_string())).collect();
            directories.insert(0, reapi::Directory { directories: wide, ..Default::default() });
        }
        let endless = Plan::unfold(&tree(directories), Path::new("/t"), 10_000);
        assert!(matches!(endless, Err(Failure::Data(_))));
    }

    #[test]
    fn a_directory_that_is_missing_is_named() {
        let digest = digests::to_wire(&Digest::of(DigestFunction::Sha256, b"gone"));
        let node = reapi::DirectoryNode { name: "gone".into(), digest: Some(digest) };
        let root = reapi::Directory { directories: vec![node], ..Default::default() };
        let error = Plan::new(&tree(vec![root]), Path::new("/t")).unwrap_err();
        assert!(matches!(&error, Failure::NotFound(text) if text.contains("/t/gone")), "{error}");
    }
}
