//! Which rows of `cargo xtask test --full` have passed, and on what.
//!
//! A record is a file outside the checkout whose name holds a hash of everything that the row ran: the sources,
//! the manifests, the harness. Documentation is left out of the hash, for it changes no outcome.

use std::path::PathBuf;

use anyhow::Result;
use sha2::{Digest, Sha256};

use crate::{shell, workspace};

/// The records for one state of the checkout.
pub(crate) struct Records {
    dir: PathBuf,
}

impl Records {
    /// The records for the checkout as it is now, uncommitted changes included.
    ///
    /// # Errors
    /// Where git can't list the files or one can't be read.
    pub(crate) fn open() -> Result<Self> {
        let dir = workspace::cache()?.join("rows").join(source_hash()?);
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// The closing line of the row's last success, if it has passed.
    pub(crate) fn passed(&self, row: &str) -> Option<String> {
        std::fs::read_to_string(self.dir.join(row)).ok()
    }

    /// Records that the row has passed.
    ///
    /// # Errors
    /// Where the record can't be written.
    pub(crate) fn pass(&self, row: &str, line: &str) -> Result<()> {
        Ok(std::fs::write(self.dir.join(row), line)?)
    }
}

fn source_hash() -> Result<String> {
    let listing = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let files = shell::output(&mut shell::command("git", listing)?)?;
    let mut hasher = Sha256::new();
    for file in files.lines().filter(|file| !is_documentation(file)) {
        // A file that git still lists may be deleted in the work tree: its absence counts as well.
        let content = std::fs::read(workspace::root().join(file)).unwrap_or_default();
        hasher.update(file.as_bytes());
        hasher.update(Sha256::digest(&content));
    }
    Ok(hex::encode(&hasher.finalize()[..8]))
}

fn is_documentation(file: &str) -> bool {
    file.starts_with("docs/") || (!file.contains('/') && file.ends_with(".md"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_documentation_is_left_out_of_the_hash() {
        assert!(is_documentation("docs/adr/0001-storage.md"));
        assert!(is_documentation("README.md"));
        assert!(!is_documentation("grid-server/src/main.rs"));
        assert!(!is_documentation("e2e/bad/README.md"));
    }
}
