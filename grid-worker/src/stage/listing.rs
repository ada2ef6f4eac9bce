//! [`Listing`]: a `Directory` message that is known to be sound.
//!
//! A name must be one path component and occur once; then no staged path can leave the input root. What is
//! unsound is the client's mistake, and said so.

use std::collections::HashSet;

use grid_core::{Digest, DigestFunction};
use grid_proto::reapi;

use crate::cache::FileKey;
use crate::cas::client::from_wire;
use crate::error::WorkerError;

/// The most bytes of a name, as Linux has it.
pub(crate) const LONGEST_NAME: usize = 255;
/// The most bytes of a link's target.
const LONGEST_TARGET: usize = 4_095;

/// A directory of an input tree.
#[derive(Debug, Default)]
pub struct Listing {
    /// Its files.
    pub files: Vec<(Box<str>, FileKey)>,
    /// Names of those of its files that are marked as parts of a tool (`bazel_tool_input`).
    pub tools: Vec<Box<str>>,
    /// Its subdirectories.
    pub directories: Vec<(Box<str>, Digest)>,
    /// Its symbolic links: name and target.
    pub links: Vec<(Box<str>, Box<str>)>,
    /// The modification time that it asks for, as seconds and nanoseconds.
    pub mtime: Option<(i64, i32)>,
}

impl Listing {
    /// Checks the message of `digest`.
    ///
    /// # Errors
    /// [`WorkerError::Invalid`] naming the directory and the entry.
    pub fn new(digest: &Digest, message: reapi::Directory) -> Result<Self, WorkerError> {
        let function = digest.function();
        let mut names = HashSet::new();
        let mut checked = |name: String| -> Result<Box<str>, WorkerError> {
            let name: Box<str> = name.into();
            if name.len() > LONGEST_NAME {
                return Err(WorkerError::Invalid(format!(
                    "directory {digest}: the name {}… has {} bytes; {LONGEST_NAME} are possible",
                    name.chars().take(40).collect::<String>(),
                    name.len()
                )));
            }
            if name.is_empty() || &*name == "." || &*name == ".." || name.contains(['/', '\0']) {
                return Err(WorkerError::Invalid(format!("directory {digest}: {name:?} can't be a name")));
            }
            if !names.insert(name.clone()) {
                return Err(WorkerError::Invalid(format!("directory {digest}: {name:?} occurs twice")));
            }
            Ok(name)
        };
        let mut listing = Self { mtime: mtime(message.node_properties.as_ref()), ..Self::default() };
        for node in message.files {
            let key = file_key(function, &node)?;
            let is_tool = is_tool(node.node_properties.as_ref());
            let name = checked(node.name)?;
            listing.tools.extend(is_tool.then(|| name.clone()));
            listing.files.push((name, key));
        }
        for node in message.directories {
            let child = from_wire(function, &node.digest.unwrap_or_default())?;
            listing.directories.push((checked(node.name)?, child));
        }
        for node in message.symlinks {
            if node.target.is_empty() || node.target.contains('\0') {
                let name = node.name;
                return Err(WorkerError::Invalid(format!("directory {digest}: link {name:?} has no target")));
            }
            if node.target.len() > LONGEST_TARGET {
                let (name, long) = (node.name, node.target.len());
                return Err(WorkerError::Invalid(format!(
                    "directory {digest}: the target of link {name:?} has {long} bytes; {LONGEST_TARGET} are possible"
                )));
            }
            listing.links.push((checked(node.name)?, node.target.into()));
        }
        Ok(listing)
    }

    /// The names of all entries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let files = self.files.iter().map(|(name, _)| &**name);
        let directories = self.directories.iter().map(|(name, _)| &**name);
        files.chain(directories).chain(self.links.iter().map(|(name, _)| &**name))
    }

    /// About how many bytes it holds in memory.
    #[must_use]
    pub fn weight(&self) -> usize {
        let links: usize = self.links.iter().map(|(name, target)| name.len() + target.len() + 32).sum();
        let files = self.files.iter().map(|(name, _)| name.len() + size_of::<FileKey>() + 16).sum::<usize>();
        let directories =
            self.directories.iter().map(|(name, _)| name.len() + size_of::<Digest>() + 16).sum::<usize>();
        let tools = self.tools.iter().map(|name| name.len() + 16).sum::<usize>();
        links + files + tools + directories + 128
    }

    /// What its files are in the cache.
    pub fn keys(&self) -> impl Iterator<Item = FileKey> {
        self.files.iter().map(|(_, key)| *key)
    }

    /// Entries, the directory itself counted.
    #[must_use]
    pub fn entries(&self) -> u64 {
        (self.files.len() + self.directories.len() + self.links.len() + 1) as u64
    }
}

fn file_key(function: DigestFunction, node: &reapi::FileNode) -> Result<FileKey, WorkerError> {
    let digest = from_wire(function, &node.digest.clone().unwrap_or_default())?;
    let properties = node.node_properties.as_ref();
    let mode = properties.and_then(|p| p.unix_mode).unwrap_or(0);
    // Inputs are read-only whatever their mode says, for others share the cached file.
    let executable = node.is_executable || mode & 0o100 != 0;
    Ok(FileKey { digest, executable, mtime: mtime(properties) })
}

/// As Bazel marks with `--experimental_remote_mark_tool_inputs`.
fn is_tool(properties: Option<&reapi::NodeProperties>) -> bool {
    properties.is_some_and(|p| p.properties.iter().any(|property| property.name == "bazel_tool_input"))
}

fn mtime(properties: Option<&reapi::NodeProperties>) -> Option<(i64, i32)> {
    properties.and_then(|p| p.mtime.as_ref()).map(|time| (time.seconds, time.nanos.clamp(0, 999_999_999)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> Digest {
        Digest::of(DigestFunction::Sha256, b"")
    }

    fn directory(names: &[&str]) -> reapi::Directory {
        let wire = Some(crate::cas::client::to_wire(&digest()));
        let node = |name: &&str| reapi::DirectoryNode { name: (*name).to_owned(), digest: wire.clone() };
        reapi::Directory { directories: names.iter().map(node).collect(), ..Default::default() }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", ".", "..", "a/b", "/", "a\0"] {
            let error = Listing::new(&digest(), directory(&[name])).unwrap_err();
            assert!(matches!(error, WorkerError::Invalid(_)), "{name:?}");
        }
        assert!(Listing::new(&digest(), directory(&["...", "a b", "ü", "-rf"])).is_ok());
    }

    #[test]
    fn a_name_occurs_once_over_all_kinds() {
        let mut message = directory(&["x"]);
        message.symlinks.push(reapi::SymlinkNode {
            name: "x".to_owned(),
            target: "y".to_owned(),
            ..Default::default()
        });
        assert!(Listing::new(&digest(), message).unwrap_err().to_string().contains("twice"));
    }
}
