//! [`Followed`]: what is read from a file, and again when the file changes, so that it is replaced without a restart.
//!
//! A file that is gone or wrong leaves the last that was right in force, and is told of once.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

/// How the content of a file is read.
type Read<T> = Box<dyn Fn(&[u8]) -> Result<T, String> + Send + Sync>;

/// Something that stands in a file.
pub struct Followed<T> {
    file: Option<(PathBuf, Read<T>)>,
    last: Mutex<Last<T>>,
}

struct Last<T> {
    changed: Option<SystemTime>,
    value: Arc<T>,
    /// How often it was replaced.
    generation: u64,
}

impl<T> Debug for Followed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Followed").field("file", &self.file.as_ref().map(|(path, _)| path)).finish()
    }
}

impl<T> From<T> for Followed<T> {
    /// Something that never changes.
    fn from(value: T) -> Self {
        let last = Last { changed: None, value: Arc::new(value), generation: 0 };
        Self { file: None, last: Mutex::new(last) }
    }
}

impl<T> Followed<T> {
    /// Reads the file at `path`, and follows it from then on.
    ///
    /// # Errors
    /// Why it can't be read, as an operator may be told.
    pub fn new(
        path: impl Into<PathBuf>,
        read: impl Fn(&[u8]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let path = path.into();
        let changed = changed(&path);
        let value = read_file(&path, &read)?;
        let last = Last { changed, value: Arc::new(value), generation: 0 };
        Ok(Self { file: Some((path, Box::new(read))), last: Mutex::new(last) })
    }

    /// What stands in the file now.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        self.look().0
    }

    /// A number that is another once something else stands in the file.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.look().1
    }

    fn look(&self) -> (Arc<T>, u64) {
        let mut last = self.last.lock();
        if let Some((path, read)) = &self.file {
            let changed = changed(path);
            if changed != last.changed {
                last.changed = changed;
                match read_file(path, read) {
                    Ok(value) => {
                        tracing::info!(path = %path.display(), "the file was read again");
                        last.value = Arc::new(value);
                        last.generation += 1;
                    }
                    Err(error) => {
                        tracing::error!(path = %path.display(), error, "the file changed and can't be used; the last one stays");
                    }
                }
            }
        }
        (Arc::clone(&last.value), last.generation)
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn read_file<T>(path: &Path, read: &impl Fn(&[u8]) -> Result<T, String>) -> Result<T, String> {
    let content = std::fs::read(path).map_err(|error| error.to_string())?;
    read(&content)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_right_is_followed_and_what_is_wrong_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        let read = |content: &[u8]| {
            let text = String::from_utf8_lossy(content);
            text.trim().parse::<u32>().map_err(|error| error.to_string())
        };
        assert!(Followed::new(&path, read).is_err(), "there is no file");
        let mut hour = 0;
        let mut write = |text: &str| {
            hour += 1;
            std::fs::write(&path, text).unwrap();
            let later = SystemTime::UNIX_EPOCH + Duration::from_secs(3_600 * hour);
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        };
        write("1");
        let file = Followed::new(&path, read).unwrap();
        assert_eq!((*file.current(), file.generation()), (1, 0));
        write("2");
        assert_eq!((*file.current(), file.generation()), (2, 1));
        write("none");
        assert_eq!((*file.current(), file.generation()), (2, 1), "the last one stands");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*file.current(), 2);
        write("3");
        assert_eq!((*file.current(), file.generation()), (3, 2));
    }
}
