//! Which paths of the input root are outputs (REAPI `Command`). Pure.
//!
//! `output_paths` may be anything; where it is empty the deprecated `output_files` and `output_directories`
//! count, and say what each must be. Paths are relative to the working directory, and none may lead out of the
//! input root.

use std::path::{Path, PathBuf};

use grid_proto::reapi::Command;
use grid_proto::reapi::command::OutputDirectoryFormat;

use crate::error::WorkerError;
use crate::stage::listing::LONGEST_NAME;

/// The most bytes of a path below the input root: what the system takes in one call.
const LONGEST_PATH: usize = 4_000;

/// What an output must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whatever it turns out to be.
    Any,
    /// A file, or a link where a file could be.
    File,
    /// A directory, or a link where a directory could be.
    Directory,
}

/// One declared output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// As the client wrote it, and as the result names it.
    pub path: String,
    /// Where that is, below the input root; empty for the root itself.
    pub location: PathBuf,
    /// What it must be.
    pub kind: Kind,
}

/// All that a command says about its outputs.
#[derive(Clone, Debug)]
pub struct Declared {
    /// The working directory, below the input root.
    pub working_directory: PathBuf,
    /// The outputs, in the order of their paths.
    pub outputs: Vec<Output>,
    /// Whether trees are wanted for directories.
    pub trees: bool,
    /// Whether the digest of the root directory, and every directory as a blob of its own, are wanted.
    pub directories: bool,
    /// Whether modification times are wanted.
    pub mtime: bool,
    /// Whether modes are wanted.
    pub unix_mode: bool,
}

impl Declared {
    /// Reads what `command` declares.
    ///
    /// # Errors
    /// [`WorkerError::Invalid`] naming the path that is absolute or leads out of the input root.
    pub fn new(command: &Command) -> Result<Self, WorkerError> {
        let working_directory = within(Path::new(""), "working_directory", &command.working_directory)?;
        let mut outputs = Vec::new();
        let mut add = |paths: &[String], field, kind| -> Result<(), WorkerError> {
            for path in paths {
                let location = within(&working_directory, field, path)?;
                outputs.push(Output { path: path.clone(), location, kind });
            }
            Ok(())
        };
        if command.output_paths.is_empty() {
            add(&command.output_files, "output_files", Kind::File)?;
            add(&command.output_directories, "output_directories", Kind::Directory)?;
        } else {
            add(&command.output_paths, "output_paths", Kind::Any)?;
        }
        outputs.sort_by(|a, b| a.path.cmp(&b.path));
        outputs.dedup();
        let format = OutputDirectoryFormat::try_from(command.output_directory_format).unwrap_or_default();
        let wants = |name: &str| command.output_node_properties.iter().any(|p| p == name);
        Ok(Self {
            working_directory,
            outputs,
            trees: format != OutputDirectoryFormat::DirectoryOnly,
            directories: format != OutputDirectoryFormat::TreeOnly,
            mtime: wants("mtime"),
            unix_mode: wants("unix_mode"),
        })
    }

    /// The directories that must be there before the command runs, below the input root: the working directory
    /// and what leads up to each output.
    #[must_use]
    pub fn parents(&self) -> Vec<&Path> {
        let of_outputs = self.outputs.iter().filter_map(|output| output.location.parent());
        let mut parents: Vec<&Path> =
            of_outputs.chain([self.working_directory.as_path()]).filter(|p| *p != Path::new("")).collect();
        parents.sort_unstable();
        parents.dedup();
        parents
    }
}

/// `base`/`path` with `.` and `..` resolved, as long as it stays in the input root.
fn within(base: &Path, field: &str, path: &str) -> Result<PathBuf, WorkerError> {
    let refuse = |why: &str| WorkerError::Invalid(format!("{field}: {path:?} {why}"));
    if path.starts_with('/') {
        return Err(refuse("is absolute; a path relative to the input root is needed"));
    }
    if path.contains('\0') {
        return Err(refuse("holds a NUL character"));
    }
    let mut location = base.to_owned();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if !location.pop() {
                    return Err(refuse("leads out of the input root"));
                }
            }
            name if name.len() > LONGEST_NAME => {
                return Err(refuse("has a name that no file can have: it is too long"));
            }
            name => location.push(name),
        }
    }
    if location.as_os_str().len() > LONGEST_PATH {
        return Err(refuse("is longer than any path can be"));
    }
    Ok(location)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(working_directory: &str, paths: &[&str]) -> Command {
        Command {
            working_directory: working_directory.to_owned(),
            output_paths: paths.iter().map(|p| (*p).to_owned()).collect(),
            ..Command::default()
        }
    }

    #[test]
    fn output_paths_hide_the_deprecated_fields() {
        let mut command = command("", &["a"]);
        command.output_files = vec!["b".to_owned()];
        assert_eq!(Declared::new(&command).unwrap().outputs.len(), 1);
        command.output_paths.clear();
        command.output_directories = vec!["a".to_owned()];
        let kinds: Vec<_> = Declared::new(&command).unwrap().outputs.iter().map(|o| o.kind).collect();
        assert_eq!(kinds, [Kind::Directory, Kind::File]);
    }

    #[test]
    fn locations_stay_in_the_root() {
        let declared = Declared::new(&command("w/x", &["../out", "a/./b//c"])).unwrap();
        let locations: Vec<_> = declared.outputs.iter().map(|o| o.location.clone()).collect();
        assert_eq!(locations, [PathBuf::from("w/out"), PathBuf::from("w/x/a/b/c")]);
        let long = "x".repeat(256);
        for bad in ["../../../x", "/x", "a\0", &long, &"d/".repeat(3_000)] {
            assert!(Declared::new(&command("w/x", &[bad])).is_err(), "{bad:?}");
        }
        assert!(Declared::new(&command("..", &[])).is_err());
    }

    #[test]
    fn parents_lead_up_to_outputs_and_no_further() {
        let declared = Declared::new(&command("w", &["a/b/c", "d", ""])).unwrap();
        assert_eq!(declared.parents(), [Path::new("w"), Path::new("w/a/b")]);
        assert!(Declared::new(&command("", &["a", ""])).unwrap().parents().is_empty());
    }

    #[test]
    fn formats() {
        let of = |format: OutputDirectoryFormat| {
            let command = Command { output_directory_format: format as i32, ..Command::default() };
            let declared = Declared::new(&command).unwrap();
            (declared.trees, declared.directories)
        };
        assert_eq!(of(OutputDirectoryFormat::TreeOnly), (true, false));
        assert_eq!(of(OutputDirectoryFormat::DirectoryOnly), (false, true));
        assert_eq!(of(OutputDirectoryFormat::TreeAndDirectory), (true, true));
    }
}
