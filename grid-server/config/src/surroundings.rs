//! [`Surroundings`]: what the string tags may ask of the machine: environment variables and files.
//!
//! Injected, so that a configuration's meaning can be tested without either.

use std::io;
use std::path::Path;

/// The machine as `!expand-path`, `!expand-vars` and `!read-file` see it.
pub trait Surroundings {
    /// The environment variable of this name, where it is set.
    fn variable(&self, name: &str) -> Option<String>;

    /// The text of a file.
    ///
    /// # Errors
    /// Whatever reading the file fails with.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// The process's own environment and file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine;

impl Surroundings for Machine {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }
}
