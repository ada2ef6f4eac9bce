//! Standard output and standard error of a command, as parts of its result.
//!
//! Short ones are in the result itself, long ones in the CAS. The files were made by the runner and are read
//! as carefully as any output.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use grid_core::{Digest, DigestFunction, Hasher};
use grid_proto::reapi::ActionResult;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

use super::blocking;
use super::workspace::Workspace;
use crate::cas::Cas;
use crate::cas::client::to_wire;
use crate::error::WorkerError;
use crate::upload::collect::open_beneath;
use crate::upload::{Blob, Content, send};

/// The most bytes of a log in the result itself.
const INLINE: u64 = 4 << 10;

/// A command's log: its content where it is short, else its digest.
struct Log {
    inline: Bytes,
    blob: Option<Blob>,
}

/// Puts both logs into `result` and uploads what isn't inline.
pub(super) async fn attach(
    cas: &Cas,
    workspace: &Workspace,
    function: DigestFunction,
    result: &mut ActionResult,
) -> Result<(), WorkerError> {
    let path = workspace.path().join("logs");
    let (directory, stdout, stderr) = blocking(move || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(CWD, &path, flags, Mode::empty())
            .map_err(|error| WorkerError::local("opening the logs", error))?;
        let stdout = read(&directory, "stdout", function)?;
        let stderr = read(&directory, "stderr", function)?;
        Ok((Arc::new(directory), stdout, stderr))
    })
    .await?;
    result.stdout_digest = stdout.blob.as_ref().map(|blob| to_wire(&blob.digest));
    result.stderr_digest = stderr.blob.as_ref().map(|blob| to_wire(&blob.digest));
    (result.stdout_raw, result.stderr_raw) = (stdout.inline, stderr.inline);
    send::send(cas, &directory, stdout.blob.into_iter().chain(stderr.blob).collect()).await
}

fn read(directory: &OwnedFd, name: &str, function: DigestFunction) -> Result<Log, WorkerError> {
    let failed = |error: std::io::Error| WorkerError::local(format!("reading the command's {name}"), error);
    let fd = match open_beneath(directory, Path::new(name), OFlags::RDONLY | OFlags::NONBLOCK) {
        Ok(fd) => fd,
        // A command that was cut off early may have none.
        Err(rustix::io::Errno::NOENT) => return Ok(Log { inline: Bytes::new(), blob: None }),
        Err(rustix::io::Errno::LOOP) => return Err(replaced(name)),
        Err(error) => return Err(failed(error.into())),
    };
    let stat = fstat(&fd).map_err(|error| failed(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(replaced(name));
    }
    let mut file = File::from(fd);
    let mut start = Vec::new();
    file.by_ref().take(INLINE + 1).read_to_end(&mut start).map_err(failed)?;
    if start.len() as u64 <= INLINE {
        return Ok(Log { inline: start.into(), blob: None });
    }
    let mut hasher = Hasher::new(function);
    hasher.update(&start);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    let digest: Digest = hasher.finish();
    let blob = Blob { digest, content: Content::File(name.into()) };
    Ok(Log { inline: Bytes::new(), blob: Some(blob) })
}

/// In `plain` isolation a command can get at the directory of its logs.
fn replaced(name: &str) -> WorkerError {
    WorkerError::Invalid(format!("the command put something else in the place of its own {name}"))
}
