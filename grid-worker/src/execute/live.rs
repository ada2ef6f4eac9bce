//! Logs while they grow: standard output and standard error written to the log streams that the server named.
//!
//! The file is the runner's; this only reads what is there, woken by the kernel when there is more, and
//! finishes the stream when the command has ended. A call that breaks is made again from where the server's
//! copy ends, for as long as the command runs. A stream that fails for good loses nothing but the show: the
//! whole log is in the result.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use grid_proto::bytestream::{QueryWriteStatusRequest, WriteRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::workspace::Workspace;
use crate::cas::Cas;
use crate::retry::{Backoff, can_heal};
use crate::watch::Watch;

/// Bytes of one piece.
const PIECE: usize = 64 << 10;
/// Pieces that wait for the network. Behind them the file waits: a slow reader holds up nobody.
const PIECES_AHEAD: usize = 2;

/// How long a result may wait for the ends of its streams.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a server may take to say how far a stream is.
const ANSWER: Duration = Duration::from_secs(5);

/// Streams both logs of an action; dropped before [`LiveLogs::close`], it ends without a word.
#[derive(Debug)]
pub(super) struct LiveLogs {
    ended: CancellationToken,
    tasks: tokio::task::JoinSet<()>,
}

impl LiveLogs {
    /// Starts streaming to the names that there are.
    pub(super) fn start(
        cas: &Cas,
        workspace: &Workspace,
        stdout: Option<&String>,
        stderr: Option<&String>,
    ) -> Self {
        let ended = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        for (file, stream) in [("stdout", stdout), ("stderr", stderr)] {
            let Some(stream) = stream.cloned() else { continue };
            let directory = workspace.path().join("logs");
            let (cas, ended) = (cas.clone(), ended.clone());
            tasks.spawn(async move {
                if let Err(error) = follow(&cas, &directory, file, stream, ended).await {
                    tracing::debug!(file, %error, "a log stream ended early");
                }
            });
        }
        Self { ended, tasks }
    }

    /// The command has ended: what is left is written, then the streams are finished.
    pub(super) fn finish(&self) {
        self.ended.cancel();
    }

    /// Waits for the streams' ends, for as long as that is worth it.
    pub(super) async fn close(mut self) {
        let ends = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(PATIENCE, ends).await.is_err() {
            tracing::debug!("a log stream is given up");
        }
    }
}

/// Writes the log to its stream, with as many calls as it takes.
async fn follow(
    cas: &Cas,
    directory: &Path,
    file: &'static str,
    stream: String,
    ended: CancellationToken,
) -> anyhow::Result<()> {
    let mut offset = 0;
    loop {
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let read = read_pieces(directory, file, &stream, offset, &ended, sender);
        let broken = match write(cas, receiver, read).await? {
            Ok(()) => return Ok(()),
            Err(status) => status,
        };
        offset = go_on(cas, &stream, broken).await?;
    }
}

/// Waits until the server can say where the stream goes on after a call that broke.
async fn go_on(cas: &Cas, stream: &str, mut broken: Status) -> Result<u64, Status> {
    let mut backoff = Backoff::default();
    while goes_on(&broken) {
        tracing::debug!(%broken, "a log stream is opened again");
        tokio::time::sleep(backoff.pause()).await;
        match committed(cas, stream).await {
            Ok(offset) => return Ok(offset),
            Err(status) => broken = status,
        }
    }
    Err(broken)
}

/// Whether a stream can go on after a call that ended so. One that has reached its limit has too few resources for
/// ever.
fn goes_on(status: &Status) -> bool {
    can_heal(status) && status.code() != Code::ResourceExhausted
}

/// One call, which ends when all was read and sent, or when the server ends it.
async fn write(
    cas: &Cas,
    receiver: mpsc::Receiver<WriteRequest>,
    read: impl Future<Output = io::Result<()>>,
) -> io::Result<Result<(), Status>> {
    let mut client = cas.byte_stream();
    let mut call = std::pin::pin!(client.write(ReceiverStream::new(receiver)));
    tokio::select! {
        answer = &mut call => return Ok(answer.map(drop)),
        read = read => read?,
    }
    Ok(call.await.map(drop))
}

/// How many bytes of the stream the server has. It may keep the answer back while there are none, until somebody
/// reads them (BuildGrid's `--wait-for-reader`).
async fn committed(cas: &Cas, stream: &str) -> Result<u64, Status> {
    let mut client = cas.byte_stream();
    let asked = client.query_write_status(QueryWriteStatusRequest { resource_name: stream.to_owned() });
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(answer) => Ok(u64::try_from(answer?.into_inner().committed_size).unwrap_or(0)),
        Err(_) => Ok(0),
    }
}

/// Reads the file from `offset` on as it grows and sends it, until the command has ended and nothing is left.
async fn read_pieces(
    directory: &Path,
    file: &'static str,
    stream: &str,
    mut offset: u64,
    ended: &CancellationToken,
    sender: mpsc::Sender<WriteRequest>,
) -> io::Result<()> {
    let watch = Watch::new(directory)?;
    let mut name = stream.to_owned();
    let mut log = None;
    loop {
        // Asked before reading: what is written before the end is read after it was noticed.
        let last = ended.is_cancelled();
        if log.is_none() {
            log = open(&directory.join(file))?;
        }
        while let Some(data) = log.as_ref().map(|log| read(log, offset)).transpose()?.flatten() {
            let length = data.len() as u64;
            let request = request(&mut name, offset, false, data);
            if sender.send(request).await.is_err() {
                return Ok(());
            }
            offset += length;
        }
        if last {
            let _ = sender.send(request(&mut name, offset, true, Bytes::new())).await;
            return Ok(());
        }
        tokio::select! {
            changed = watch.changed() => changed?,
            () = ended.cancelled() => {}
        }
    }
}

fn request(name: &mut String, offset: u64, finish_write: bool, data: Bytes) -> WriteRequest {
    let write_offset = i64::try_from(offset).unwrap_or(i64::MAX);
    WriteRequest { resource_name: std::mem::take(name), write_offset, finish_write, data }
}

/// The log, once it is there; only a regular file is taken for it.
fn open(path: &Path) -> io::Result<Option<File>> {
    use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat(CWD, path, flags, Mode::empty()) {
        Ok(fd) if FileType::from_raw_mode(fstat(&fd)?.st_mode) == FileType::RegularFile => {
            Ok(Some(fd.into()))
        }
        Ok(_) => Err(io::Error::other("it is not a regular file")),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read(log: &File, offset: u64) -> io::Result<Option<Bytes>> {
    let mut piece = vec![0; PIECE];
    let count = log.read_at(&mut piece, offset)?;
    piece.truncate(count);
    Ok((count > 0).then(|| piece.into()))
}
