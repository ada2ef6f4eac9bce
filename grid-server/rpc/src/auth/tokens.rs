//! Tokens in files for workers and administrators (`grid-credentials`).
//!
//! A file is read again when it changes, so that a token is replaced without a restart. Each of its lines is a token that is
//! let in, so that an old one is still while a new one comes into use. Comparison takes the same
//! time wherever two tokens differ.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

/// Tokens that stand in a file.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    last: Mutex<Option<(SystemTime, Tokens)>>,
}

/// Text that no debug output shows.
#[derive(Clone)]
struct Tokens(Arc<str>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl TokenFile {
    /// The tokens in the file at `path`, one a line.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), last: Mutex::new(None) }
    }

    /// Whether `given` is one of the tokens. Where the file can't be read or is empty, nothing is.
    #[must_use]
    pub fn matches(&self, given: &str) -> bool {
        let Some(tokens) = self.tokens() else { return false };
        let mut lines = tokens.0.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.any(|token| same(token.as_bytes(), given.as_bytes()))
    }

    fn tokens(&self) -> Option<Tokens> {
        let changed = std::fs::metadata(&self.path).and_then(|m| m.modified());
        let changed = match changed {
            Ok(changed) => changed,
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "a credential's file can't be read");
                return None;
            }
        };
        let mut last = self.last.lock();
        if let Some((at, tokens)) = &*last
            && *at == changed
        {
            return Some(tokens.clone());
        }
        let tokens = Tokens(std::fs::read_to_string(&self.path).ok()?.into());
        *last = Some((changed, tokens.clone()));
        Some(tokens)
    }
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_follows_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let file = TokenFile::new(&path);
        assert!(!file.matches(""), "no file, no token");
        std::fs::write(&path, "first\n").unwrap();
        assert!(file.matches("first") && !file.matches("firsT") && !file.matches(""));
        std::fs::write(&path, "second\nthird\n").unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        assert!(file.matches("second") && file.matches("third") && !file.matches("first"));
        assert!(!file.matches("second\nthird") && !file.matches(""), "each line is one");
        std::fs::write(&path, "").unwrap();
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        assert!(!file.matches(""), "an empty file lets nobody in");
    }
}
