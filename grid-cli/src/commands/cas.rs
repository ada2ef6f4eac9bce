//! `cas`: blobs and directories, up and down.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use grid_core::Digest;
use grid_proto::reapi;
use serde_json::json;

use crate::args::connection::Connection;
use crate::digests;
use crate::exit::{Exit, Failure};
use crate::printer::Printer;
use crate::progress::Progress;
use crate::remote::Remote;
use crate::transfer::{Cas, Placement, Report, Source, Uploads, Wanted};
use crate::tree::checkout::Plan;
use crate::tree::{fetch, scan};

const EXAMPLES: &str = "\
Examples:
  Upload two files; each is printed as DIGEST and path:
    grid cas upload-file main.c main.h
  Upload a directory, and fetch it again somewhere else:
    grid cas upload-dir ./src
    grid cas download-dir 1f0e...c2/184 ./copy
  Fetch two files:
    grid cas download-file 9a3b...07/12 main.c 55d0...e1/7 main.h
  Fetch an output directory of an action, which is a Tree:
    grid cas download-dir --tree 77aa...90/402 ./out
";

/// Upload and download blobs and directories.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: CasCommand,
}

#[derive(Debug, Subcommand)]
enum CasCommand {
    /// Upload the action that `execute request-dummy` asks for
    UploadDummy,
    /// Upload files
    UploadFile {
        /// Files to upload
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Read each blob back and compare
        #[arg(long)]
        verify: bool,
    },
    /// Upload a directory, and print the digest of its root
    UploadDir {
        /// Directory to upload
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
        /// Read each blob back and compare
        #[arg(long)]
        verify: bool,
    },
    /// Download files; what exists already is not overwritten
    DownloadFile {
        /// Digest as HASH/SIZE and where to put it, again and again
        #[arg(required = true, num_args = 2.., value_names = ["DIGEST", "PATH"])]
        pairs: Vec<String>,
        /// Accepted for BuildGrid's sake: content is always verified
        #[arg(long)]
        verify: bool,
    },
    /// Download a directory into a new or empty one
    DownloadDir {
        /// Digest of the root, as HASH/SIZE
        digest: String,
        /// Where to put it
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
        /// The digest is that of a Tree, as action results name output directories
        #[arg(long)]
        tree: bool,
        /// Accepted for BuildGrid's sake: content is always verified
        #[arg(long)]
        verify: bool,
    },
}

impl Args {
    /// Runs the command.
    pub(crate) async fn run(self, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
        let connection = &self.connection;
        let remote = Remote::connect(connection).await?;
        let cas = Cas::new(remote.clone(), connection.digest_function).await?;
        let session = Session { connection, remote, cas };
        match &self.command {
            CasCommand::UploadDummy => session.upload_dummy(printer).await?,
            CasCommand::UploadFile { files, verify } => session.upload_files(files, *verify, printer).await?,
            CasCommand::UploadDir { directory, verify } => {
                session.upload_directory(directory, *verify, printer).await?;
            }
            CasCommand::DownloadFile { pairs, .. } => session.download_files(pairs, printer).await?,
            CasCommand::DownloadDir { digest, directory, tree, .. } => {
                session.download_directory(digest, directory, *tree, printer).await?;
            }
        }
        Ok(Exit::Success)
    }
}

/// The action of `upload-dummy` and `request-dummy`, and its command: both empty, but for what links them, as the input
/// root is.
pub(crate) fn dummy_action(blobs: &mut Uploads, function: grid_core::DigestFunction) -> (Digest, Digest) {
    let command = scan::insert_message(blobs, &reapi::Command::default(), function);
    let root = scan::insert_message(blobs, &reapi::Directory::default(), function);
    let action = reapi::Action {
        command_digest: Some(digests::to_wire(&command)),
        input_root_digest: Some(digests::to_wire(&root)),
        do_not_cache: true,
        ..Default::default()
    };
    (command, scan::insert_message(blobs, &action, function))
}

struct Session<'a> {
    connection: &'a Connection,
    remote: Remote,
    cas: Cas,
}

impl Session<'_> {
    async fn upload_dummy(&self, printer: &mut Printer<'_>) -> Result<(), Failure> {
        let mut blobs = Uploads::new();
        let (command, action) = dummy_action(&mut blobs, self.cas.function());
        self.upload(&blobs, false).await?;
        if self.connection.json {
            return printer.value(&json!({"command": command.to_string(), "action": action.to_string()}));
        }
        printer.line(format_args!("{command}  command"))?;
        printer.line(format_args!("{action}  action"))
    }

    async fn upload_files(
        &self,
        files: &[PathBuf],
        verify: bool,
        printer: &mut Printer<'_>,
    ) -> Result<(), Failure> {
        let mut blobs = Uploads::new();
        let mut uploaded = Vec::with_capacity(files.len());
        for path in files {
            let digest = scan::hash_file(path.clone(), self.cas.function()).await?;
            blobs.entry(digest).or_insert_with(|| Source::File(path.clone()));
            uploaded.push((digest, path));
        }
        self.upload(&blobs, verify).await?;
        uploaded.iter().try_for_each(|(digest, path)| self.print_pair(digest, path, printer))
    }

    async fn upload_directory(
        &self,
        directory: &Path,
        verify: bool,
        printer: &mut Printer<'_>,
    ) -> Result<(), Failure> {
        let scan = scan::scan(directory, self.cas.function()).await?;
        let report = self.upload(&scan.blobs, verify).await?;
        if self.connection.json {
            return printer.value(&json!({
                "digest": scan.root.to_string(),
                "path": directory.display().to_string(),
                "blobs": report.blobs,
                "bytes": report.bytes,
                "sentBlobs": report.sent_blobs,
                "sentBytes": report.sent_bytes,
            }));
        }
        self.print_pair(&scan.root, directory, printer)
    }

    async fn upload(&self, blobs: &Uploads, verify: bool) -> Result<Report, Failure> {
        let progress = Progress::start(self.connection.progress, "uploading");
        let report = self.cas.upload(blobs, &progress).await?;
        drop(progress);
        if verify {
            let progress = Progress::start(self.connection.progress, "verifying");
            progress.expect(report.blobs, report.bytes);
            self.cas.verify(blobs.keys(), &progress).await?;
        }
        Ok(report)
    }

    async fn download_files(&self, pairs: &[String], printer: &mut Printer<'_>) -> Result<(), Failure> {
        let mut wanted = Wanted::new();
        let mut placed = Vec::new();
        let (pairs, rest) = pairs.as_chunks::<2>();
        if let [single] = rest {
            return Err(Failure::Usage(format!(
                "download-file takes pairs of DIGEST and PATH; {single:?} is alone"
            )));
        }
        for [digest, path] in pairs {
            let digest = digests::from_argument(self.cas.function(), digest)?;
            let path = PathBuf::from(path);
            if path.symlink_metadata().is_ok() {
                let exists = std::io::ErrorKind::AlreadyExists.into();
                return Err(Failure::path("write", &path, exists));
            }
            wanted.entry(digest).or_default().push(Placement { path: path.clone(), executable: false });
            placed.push((digest, path));
        }
        let progress = Progress::start(self.connection.progress, "downloading");
        self.cas.download(&wanted, &progress).await?;
        drop(progress);
        placed.iter().try_for_each(|(digest, path)| self.print_pair(digest, path, printer))
    }

    async fn download_directory(
        &self,
        digest: &str,
        directory: &Path,
        tree: bool,
        printer: &mut Printer<'_>,
    ) -> Result<(), Failure> {
        let digest = digests::from_argument(self.cas.function(), digest)?;
        refuse_filled(directory)?;
        let directories = if tree {
            fetch::by_tree(&self.cas, &digest).await?
        } else if digest.is_empty_blob() {
            fetch::empty(digest)
        } else {
            fetch::by_root(&self.remote, digest).await?
        };
        let plan = Plan::new(&directories, directory)?;
        let progress = Progress::start(self.connection.progress, "downloading");
        plan.carry_out(&self.cas, &progress).await?;
        drop(progress);
        if self.connection.json {
            return printer.value(&json!({
                "digest": digest.to_string(),
                "path": directory.display().to_string(),
                "files": plan.file_count(),
                "blobs": plan.files.len(),
                "bytes": plan.files.keys().map(Digest::size).sum::<u64>(),
            }));
        }
        self.print_pair(&digest, directory, printer)
    }

    fn print_pair(&self, digest: &Digest, path: &Path, printer: &mut Printer<'_>) -> Result<(), Failure> {
        let path = path.display();
        if self.connection.json {
            return printer.value(&json!({"digest": digest.to_string(), "path": path.to_string()}));
        }
        printer.line(format_args!("{digest}  {path}"))
    }
}

/// A directory's content is not mixed with what is there.
fn refuse_filled(directory: &Path) -> Result<(), Failure> {
    let told = |error| Failure::path("download into", directory, error);
    match std::fs::read_dir(directory).map(Iterator::count) {
        Ok(0) => Ok(()),
        Ok(_) => Err(told(std::io::ErrorKind::DirectoryNotEmpty.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(told(error)),
    }
}
