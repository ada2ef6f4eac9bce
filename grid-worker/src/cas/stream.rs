//! Large blobs over ByteStream, in pieces, compressed where that is asked for and offered.
//!
//! Hashing, (de)compression and the disk are blocking work and run beside the network, a few pieces apart.
//! A read that breaks goes on where it was, a write starts over. Neighbour: `client` holds the limits and the retry budget.

use std::io::{Read, Write};

use bytes::Bytes;
use grid_core::{Digest, DigestFunction, Hasher};
use grid_proto::bytestream::{ReadRequest, WriteRequest};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::client::Cas;
use crate::error::WorkerError;
use crate::retry::can_heal;

/// Bytes of a written piece.
const PIECE: usize = 512 << 10;
/// Pieces between the network and the disk.
const PIECES_AHEAD: usize = 4;

impl Cas {
    /// Reads a blob into the writer that `open` gives, and gives that writer back once the content was checked. A
    /// read that breaks goes on where it was; where that makes another blob, it starts over with a new writer.
    ///
    /// # Errors
    /// [`WorkerError::Missing`], [`WorkerError::Corrupt`], [`WorkerError::Local`], [`WorkerError::Remote`].
    pub async fn read_stream<W, F>(&self, digest: &Digest, open: F) -> Result<W, WorkerError>
    where
        W: Write + Send + 'static,
        F: Fn() -> std::io::Result<W>,
    {
        let zstd = self.shared.compress && self.capabilities().await?.zstd;
        let resource = self.resource("", digest, zstd);
        let _permit = self.permit().await?;
        let broken = Mutex::new(None);
        // Only what the network did is worth another attempt, so the other errors travel as values.
        let result = self
            .shared
            .retry
            .run("Read", || async {
                let begun = broken.lock().take();
                let content = match begun.map_or_else(|| open().map(|w| Checked::new(w, digest)), Ok) {
                    Ok(content) => content,
                    Err(error) => return Ok(Err(WorkerError::local("opening a file of the cache", error))),
                };
                let resumed = content.hasher.size() > 0;
                match self.read_on(&resource, zstd, content).await {
                    Ok((content, Err(status))) if !content.is_whole() => {
                        // Not every server reads from the middle of what it compresses.
                        if resumed && !can_heal(&status) && status.code() != Code::NotFound {
                            return Err(anew(&status));
                        }
                        *broken.lock() = Some(content);
                        Err(status)
                    }
                    Ok((content, _)) => match content.finish() {
                        Err(error) if resumed => Err(anew(&error)),
                        finished => Ok(finished),
                    },
                    Err(error) if resumed => Err(anew(&error)),
                    Err(error) => Ok(Err(error)),
                }
            })
            .await;
        match result {
            Ok(result) => result,
            Err(status) if status.code() == Code::NotFound => Err(WorkerError::Missing(vec![*digest])),
            Err(status) => Err(WorkerError::remote("Read", status)),
        }
    }

    /// Reads a blob into memory; for messages, which are small even where they don't fit into a batch.
    ///
    /// # Errors
    /// As [`Cas::read_stream`].
    pub async fn read_whole(&self, digest: &Digest) -> Result<Bytes, WorkerError> {
        self.read_stream(digest, || Ok(Vec::new())).await.map(Bytes::from)
    }

    /// Reads what `content` lacks, and says how the call ended.
    async fn read_on<W: Write + Send + 'static>(
        &self,
        resource: &str,
        zstd: bool,
        content: Checked<W>,
    ) -> Result<(Checked<W>, Result<(), Status>), WorkerError> {
        // Of the blob, not of its compressed form (REAPI).
        let read_offset = i64::try_from(content.hasher.size()).unwrap_or(i64::MAX);
        let request = ReadRequest { resource_name: resource.to_owned(), read_offset, read_limit: 0 };
        let mut pieces = match self.byte_stream().read(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return Ok((content, Err(status))),
        };
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let written = tokio::task::spawn_blocking(move || write_out(zstd, content, receiver));
        let ended = loop {
            match pieces.message().await {
                Ok(Some(piece)) => {
                    if sender.send(piece.data).await.is_err() {
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            }
        };
        drop(sender);
        let content = written.await.map_err(|error| WorkerError::Internal(error.to_string()))??;
        Ok((content, ended))
    }

    /// Uploads what the reader that `open` gives reads; a new one for each attempt.
    ///
    /// # Errors
    /// [`WorkerError::Local`], [`WorkerError::Remote`].
    pub async fn write_stream<R, F>(&self, digest: &Digest, open: F) -> Result<(), WorkerError>
    where
        R: Read + Send + 'static,
        F: Fn() -> std::io::Result<R>,
    {
        let zstd = self.shared.compress && self.capabilities().await?.zstd;
        let _permit = self.permit().await?;
        let result = self
            .shared
            .retry
            .run("Write", || async {
                let reader = match open() {
                    Ok(reader) => reader,
                    Err(error) => return Ok(Err(WorkerError::local("opening an output", error))),
                };
                // A write of its own for each attempt: what a broken one left behind is the server's to drop.
                let upload = format!("uploads/{}/", uuid::Uuid::new_v4());
                self.write_once(self.resource(&upload, digest, zstd), digest, zstd, reader).await
            })
            .await;
        result.unwrap_or_else(|status| Err(WorkerError::remote("Write", status)))
    }

    async fn write_once<R: Read + Send + 'static>(
        &self,
        resource: String,
        digest: &Digest,
        zstd: bool,
        reader: R,
    ) -> Result<Result<(), WorkerError>, Status> {
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let size = digest.size();
        let read = tokio::task::spawn_blocking(move || read_in(resource, size, zstd, reader, &sender));
        let answer = self.byte_stream().write(ReceiverStream::new(receiver)).await;
        if let Ok(Err(error)) = read.await {
            return Ok(Err(WorkerError::local("reading an output", error)));
        }
        let committed = answer?.into_inner().committed_size;
        // A server that has the blob already answers early; for compressed uploads with -1 (REAPI).
        if committed == digest.size_signed() || zstd {
            Ok(Ok(()))
        } else {
            Err(Status::unavailable(format!("{committed} of {size} bytes were committed")))
        }
    }

    /// `INSTANCE/UPLOADblobs/[FUNCTION/]HASH/SIZE`. The function is named where the hash doesn't tell it.
    fn resource(&self, upload: &str, digest: &Digest, zstd: bool) -> String {
        let kind = if zstd { "compressed-blobs/zstd" } else { "blobs" };
        let function = match digest.function() {
            DigestFunction::Blake3 => "blake3/",
            _ => "",
        };
        self.shared.instance.join(&format!("{upload}{kind}/{function}{digest}"))
    }
}

/// A failure after which a read starts over.
fn anew(reason: &dyn std::fmt::Display) -> Status {
    Status::unavailable(format!("a read that went on where it broke: {reason}"))
}

fn write_out<W: Write>(
    zstd: bool,
    mut content: Checked<W>,
    mut pieces: mpsc::Receiver<Bytes>,
) -> Result<Checked<W>, WorkerError> {
    let digest = content.digest;
    let failed = |error| WorkerError::local(format!("storing blob {digest}"), error);
    if zstd {
        let mut decoder = zstd::stream::write::Decoder::new(content).map_err(failed)?;
        while let Some(piece) = pieces.blocking_recv() {
            decoder.write_all(&piece).map_err(failed)?;
        }
        decoder.flush().map_err(failed)?;
        content = decoder.into_inner();
    } else {
        while let Some(piece) = pieces.blocking_recv() {
            content.write_all(&piece).map_err(failed)?;
        }
    }
    Ok(content)
}

/// Hashes what goes through, and stops content that is longer than its digest says.
struct Checked<W> {
    writer: W,
    hasher: Hasher,
    digest: Digest,
}

impl<W> Checked<W> {
    fn new(writer: W, digest: &Digest) -> Self {
        Self { writer, hasher: Hasher::new(digest.function()), digest: *digest }
    }

    /// Whether nothing more can come.
    fn is_whole(&self) -> bool {
        self.hasher.size() == self.digest.size()
    }

    fn finish(self) -> Result<W, WorkerError> {
        let found = self.hasher.finish();
        if found == self.digest { Ok(self.writer) } else { Err(WorkerError::corrupt(self.digest, found)) }
    }
}

impl<W: Write> Write for Checked<W> {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        if self.hasher.size() + piece.len() as u64 > self.digest.size() {
            return Err(std::io::Error::other(format!(
                "more than the {} bytes of its digest",
                self.digest.size()
            )));
        }
        let taken = self.writer.write(piece)?;
        self.hasher.update(&piece[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}

fn read_in<R: Read>(
    resource: String,
    size: u64,
    zstd: bool,
    reader: R,
    sender: &mpsc::Sender<WriteRequest>,
) -> std::io::Result<()> {
    let limited = reader.take(size);
    let mut source: Box<dyn Read> =
        if zstd { Box::new(zstd::stream::read::Encoder::new(limited, 0)?) } else { Box::new(limited) };
    let mut name = resource;
    let mut offset: u64 = 0;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let count = source.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        // Only a short piece is known to be the last; content that fills its last piece ends with an empty one.
        let finish = count < PIECE;
        if finish && !zstd && offset + (count as u64) < size {
            return Err(std::io::Error::other(format!("the file shrank below {size} bytes")));
        }
        let request = WriteRequest {
            resource_name: std::mem::take(&mut name),
            write_offset: i64::try_from(offset).unwrap_or(i64::MAX),
            finish_write: finish,
            data: piece.into(),
        };
        offset += count as u64;
        // A receiver that is gone has its answer already.
        if sender.blocking_send(request).is_err() || finish {
            return Ok(());
        }
    }
}
