//! What a command made: its files and directories to disk, its streams to the terminal.

use std::io::Write;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use grid_proto::reapi;
use grid_proto::reapi::ActionResult;

use crate::args::connection::ProgressMode;
use crate::digests;
use crate::exit::Failure;
use crate::printer::Printer;
use crate::progress::Progress;
use crate::transfer::{Cas, Placement};
use crate::tree::checkout::Plan;
use crate::tree::fetch;

/// The outputs of one execution.
pub(super) struct Outputs<'a> {
    /// Where they are.
    pub(super) cas: &'a Cas,
    /// What they are.
    pub(super) result: &'a ActionResult,
    /// The folder that they go to.
    pub(super) to: &'a Path,
}

impl Outputs<'_> {
    /// Fetches files, directories and links.
    pub(super) async fn fetch(&self, progress: ProgressMode) -> Result<(), Failure> {
        let mut plan = Plan::below(self.to);
        let function = self.cas.function();
        for file in &self.result.output_files {
            let path = self.place(&file.path)?;
            plan.folders.extend(path.parent().map(Path::to_path_buf));
            let digest = digests::required(function, file.digest.as_ref(), &file.path)?;
            plan.files.entry(digest).or_default().push(Placement { path, executable: file.is_executable });
        }
        for directory in &self.result.output_directories {
            let tree = digests::required(function, directory.tree_digest.as_ref(), &directory.path)?;
            let tree = fetch::by_tree(self.cas, &tree).await?;
            plan.join(Plan::new(&tree, &self.place(&directory.path)?)?);
        }
        for link in links(self.result) {
            let path = self.place(&link.path)?;
            plan.folders.extend(path.parent().map(Path::to_path_buf));
            plan.links.push((path, link.target.clone()));
        }
        plan.carry_out(self.cas, &Progress::start(progress, "downloading")).await
    }

    /// Passes on what the command wrote, each stream to our own.
    pub(super) async fn print_streams(&self, printer: &mut Printer<'_>) -> Result<(), Failure> {
        let result = self.result;
        self.copy(&result.stdout_raw, result.stdout_digest.as_ref(), printer.output()).await?;
        self.copy(&result.stderr_raw, result.stderr_digest.as_ref(), printer.error()).await
    }

    async fn copy(
        &self,
        raw: &Bytes,
        digest: Option<&reapi::Digest>,
        to: &mut dyn Write,
    ) -> Result<(), Failure> {
        match digest {
            Some(digest) if raw.is_empty() && digest.size_bytes > 0 => {
                let digest = digests::from_wire(self.cas.function(), digest)?;
                self.cas.read_to(&digest, to).await
            }
            _ => to.write_all(raw).map_err(Failure::Output),
        }
    }

    /// Where the output `path` goes: below the folder, wherever the worker says.
    fn place(&self, path: &str) -> Result<PathBuf, Failure> {
        let relative = Path::new(path);
        if relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return Ok(self.to.join(relative));
        }
        Err(Failure::Data(format!("the result has an output outside of the output directory: {path:?}")))
    }
}

/// Links, in whichever of the fields that the versions of the protocol gave them; each once.
fn links(result: &ActionResult) -> Vec<&reapi::OutputSymlink> {
    if !result.output_symlinks.is_empty() {
        return result.output_symlinks.iter().collect();
    }
    result.output_file_symlinks.iter().chain(&result.output_directory_symlinks).collect()
}
