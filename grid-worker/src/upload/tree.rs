//! [`TreeBuilder`]: directories of outputs as REAPI messages. Pure.
//!
//! Directories arrive with their children before them, as a walk finishes them; equal ones are kept once. In
//! reverse that order is topological, parents before children, which a `Tree` may promise
//! (`is_topologically_sorted`). Neighbour: `collect` walks.

use std::collections::HashSet;

use bytes::Bytes;
use grid_core::{Digest, DigestFunction};
use grid_proto::reapi;
use prost::Message;

use super::{Blob, Content};
use crate::cas::client::to_wire;

/// Collects the directories of one output directory.
#[derive(Debug)]
pub struct TreeBuilder {
    function: DigestFunction,
    seen: HashSet<Digest>,
    finished: Vec<(Digest, reapi::Directory)>,
}

impl TreeBuilder {
    /// An empty tree.
    #[must_use]
    pub fn new(function: DigestFunction) -> Self {
        Self { function, seen: HashSet::new(), finished: Vec::new() }
    }

    /// Adds a directory all of whose subdirectories were added before, in canonical form, and gives its digest.
    pub fn add(&mut self, mut directory: reapi::Directory) -> Digest {
        directory.files.sort_by(|a, b| a.name.cmp(&b.name));
        directory.directories.sort_by(|a, b| a.name.cmp(&b.name));
        directory.symlinks.sort_by(|a, b| a.name.cmp(&b.name));
        let digest = Digest::of(self.function, &directory.encode_to_vec());
        if self.seen.insert(digest) {
            self.finished.push((digest, directory));
        }
        digest
    }

    /// Describes the tree whose root was added last. `trees` and `directories` say which forms are wanted.
    #[must_use]
    pub fn finish(self, path: String, trees: bool, directories: bool) -> (reapi::OutputDirectory, Vec<Blob>) {
        let mut blobs = Vec::new();
        let mut output = reapi::OutputDirectory { path, is_topologically_sorted: true, ..Default::default() };
        if directories {
            output.root_directory_digest = self.finished.last().map(|(digest, _)| to_wire(digest));
            blobs.extend(self.finished.iter().map(|(digest, directory)| Blob {
                digest: *digest,
                content: Content::Memory(directory.encode_to_vec().into()),
            }));
        }
        if trees {
            let mut parents_first = self.finished.into_iter().rev().map(|(_, directory)| directory);
            let tree = reapi::Tree { root: parents_first.next(), children: parents_first.collect() };
            let content = Bytes::from(tree.encode_to_vec());
            let digest = Digest::of(self.function, &content);
            output.tree_digest = Some(to_wire(&digest));
            blobs.push(Blob { digest, content: Content::Memory(content) });
        }
        (output, blobs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(children: &[(&str, Digest)]) -> reapi::Directory {
        let node = |(name, digest): &(&str, Digest)| reapi::DirectoryNode {
            name: (*name).to_owned(),
            digest: Some(to_wire(digest)),
        };
        reapi::Directory { directories: children.iter().map(node).collect(), ..Default::default() }
    }

    #[test]
    fn parents_come_before_children_and_equal_directories_once() {
        let mut tree = TreeBuilder::new(DigestFunction::Sha256);
        let leaf = tree.add(parent(&[]));
        let middle = tree.add(parent(&[("x", leaf)]));
        let again = tree.add(parent(&[]));
        assert_eq!(leaf, again);
        // Both a child and a grandchild of the root, and out of order.
        let root = tree.add(parent(&[("z", middle), ("a", again)]));
        let (output, blobs) = tree.finish("out".to_owned(), true, true);
        assert_eq!(output.root_directory_digest, Some(to_wire(&root)));
        assert_eq!(blobs.len(), 4, "three directories and the tree");
        let Content::Memory(content) = &blobs[3].content else { panic!("a tree is made in memory") };
        let decoded = reapi::Tree::decode(content.clone()).unwrap();
        let names: Vec<_> = decoded.root.unwrap().directories.into_iter().map(|d| d.name).collect();
        assert_eq!(names, ["a", "z"]);
        assert_eq!(decoded.children, [parent(&[("x", leaf)]), parent(&[])]);
    }

    #[test]
    fn only_the_forms_that_are_wanted() {
        for (trees, directories) in [(true, false), (false, true)] {
            let mut tree = TreeBuilder::new(DigestFunction::Sha256);
            tree.add(parent(&[]));
            let (output, blobs) = tree.finish(String::new(), trees, directories);
            assert_eq!(output.tree_digest.is_some(), trees);
            assert_eq!(output.root_directory_digest.is_some(), directories);
            assert_eq!(blobs.len(), 1);
        }
    }
}
