//! Input trees for tests, and the reading of output trees.

use std::collections::BTreeMap;

use grid_proto::reapi::{Digest, Directory, DirectoryNode, FileNode, NodeProperties, SymlinkNode};
use prost::Message;

/// An input tree by paths.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    directories: BTreeMap<String, Tree>,
    files: BTreeMap<String, (Vec<u8>, bool, Option<NodeProperties>)>,
    links: BTreeMap<String, String>,
}

impl Tree {
    fn parent<'a>(&mut self, path: &'a str) -> (&mut Self, &'a str) {
        let mut tree = self;
        let (parents, name) = path.rsplit_once('/').map_or((None, path), |(p, n)| (Some(p), n));
        for part in parents.into_iter().flat_map(|p| p.split('/')) {
            tree = tree.directories.entry(part.to_owned()).or_default();
        }
        (tree, name)
    }

    pub(crate) fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let (tree, name) = self.parent(path);
        tree.files.insert(name.to_owned(), (content.as_ref().to_vec(), false, None));
        self
    }

    pub(crate) fn program(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let (tree, name) = self.parent(path);
        tree.files.insert(name.to_owned(), (content.as_ref().to_vec(), true, None));
        self
    }

    pub(crate) fn file_with(mut self, path: &str, content: &str, properties: NodeProperties) -> Self {
        let (tree, name) = self.parent(path);
        tree.files.insert(name.to_owned(), (content.as_bytes().to_vec(), false, Some(properties)));
        self
    }

    /// Gives a file that is there properties.
    pub(crate) fn mark(mut self, path: &str, properties: NodeProperties) -> Self {
        let (tree, name) = self.parent(path);
        tree.files.get_mut(name).unwrap().2 = Some(properties);
        self
    }

    pub(crate) fn link(mut self, path: &str, target: &str) -> Self {
        let (tree, name) = self.parent(path);
        tree.links.insert(name.to_owned(), target.to_owned());
        self
    }

    pub(crate) fn directory(mut self, path: &str) -> Self {
        let (tree, name) = self.parent(path);
        tree.directories.entry(name.to_owned()).or_default();
        self
    }

    /// Stores all its blobs by `put` and gives the digest of its root.
    pub(crate) fn store(&self, put: &mut dyn FnMut(&[u8]) -> Digest) -> Digest {
        let mut directory = Directory::default();
        for (name, (content, is_executable, node_properties)) in &self.files {
            directory.files.push(FileNode {
                name: name.clone(),
                digest: Some(put(content)),
                is_executable: *is_executable,
                node_properties: node_properties.clone(),
            });
        }
        for (name, tree) in &self.directories {
            let digest = Some(tree.store(put));
            directory.directories.push(DirectoryNode { name: name.clone(), digest });
        }
        for (name, target) in &self.links {
            let (name, target) = (name.clone(), target.clone());
            directory.symlinks.push(SymlinkNode { name, target, node_properties: None });
        }
        put(&directory.encode_to_vec())
    }
}
