//! Tokens in files for workers and administrators (`grid-credentials`).
//!
//! A file is read again when it changes, so that a token is replaced without a restart. Comparison takes the same
//! time wherever two tokens differ.

use std::path::PathBuf;
use std::time::SystemTime;

use parking_lot::Mutex;

/// A token that stands in a file.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    last: Mutex<Option<(SystemTime, Token)>>,
}

/// Text that no debug output shows.
#[derive(Clone)]
struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl TokenFile {
    /// The token in the file at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), last: Mutex::new(None) }
    }

    /// Whether `given` is the token. Where the file can't be read or is empty, nothing is.
    #[must_use]
    pub fn matches(&self, given: &str) -> bool {
        self.token().is_some_and(|token| !token.0.is_empty() && same(token.0.as_bytes(), given.as_bytes()))
    }

    fn token(&self) -> Option<Token> {
        let changed = std::fs::metadata(&self.path).and_then(|m| m.modified());
        let changed = match changed {
            Ok(changed) => changed,
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "a credential's file can't be read");
                return None;
            }
        };
        let mut last = self.last.lock();
        if let Some((at, token)) = &*last
            && *at == changed
        {
            return Some(token.clone());
        }
        let token = Token(std::fs::read_to_string(&self.path).ok()?.trim().to_owned());
        *last = Some((changed, token.clone()));
        Some(token)
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
        std::fs::write(&path, "second").unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        assert!(file.matches("second") && !file.matches("first"));
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
