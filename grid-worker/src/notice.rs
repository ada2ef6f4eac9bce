//! Notice that the machine is about to go: a file that appears.
//!
//! Clouds give it in different ways, and agents on the node turn it into a file of a shared volume. Neighbour:
//! `work` has the worker leave then, as for SIGTERM, and tells the grid that the machine goes.

use std::io;
use std::path::{Path, PathBuf};

use crate::watch::Watch;

/// A file that is waited for.
#[derive(Debug)]
pub struct Notice {
    file: PathBuf,
    watch: Watch,
}

impl Notice {
    /// Watches for `file`, whose directory must be there.
    ///
    /// # Errors
    /// Where it isn't.
    pub fn new(file: &Path) -> io::Result<Self> {
        let directory = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Ok(Self { file: file.to_owned(), watch: Watch::new(directory)? })
    }

    /// Waits until the file is there.
    pub async fn given(&self) {
        while !self.file.exists() {
            if let Err(error) = self.watch.changed().await {
                tracing::error!(%error, file = %self.file.display(), "can't wait for the notice any longer");
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_comes_in_any_way_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("notice");
        let notice = Notice::new(&file).unwrap();
        assert!(tokio::time::timeout(std::time::Duration::ZERO, notice.given()).await.is_err());
        std::fs::write(dir.path().join("other"), "").unwrap();
        std::fs::rename(dir.path().join("other"), &file).unwrap();
        notice.given().await;
        Notice::new(&file).unwrap().given().await;
        assert!(Notice::new(&dir.path().join("nowhere/notice")).is_err());
    }
}
