//! Downloads blobs into files, into memory where they are small messages, or nowhere to verify them.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use grid_core::Digest;
use grid_proto::bytestream::ReadRequest;
use grid_proto::reapi;
use indexmap::IndexMap;
use tempfile::{NamedTempFile, TempPath};
use tonic::Code;

use crate::digests;
use crate::exit::Failure;
use crate::progress::Progress;
use crate::remote::retry::Tries;
use crate::transfer::sink::Sink;
use crate::transfer::{CONCURRENCY, Cas, names, packing, status_of};

/// The largest message that is read whole: a `Directory`, `Tree`, `Action` or `ActionResult`.
const MAX_MESSAGE: u64 = 64 << 20;

/// Where a blob goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    /// The file; its folder exists.
    pub(crate) path: PathBuf,
    /// Whether it may be executed.
    pub(crate) executable: bool,
}

/// Blobs to download, each with all the places where it goes.
pub(crate) type Wanted = IndexMap<Digest, Vec<Placement>>;

impl Cas {
    /// Downloads `wanted`. Each file appears whole and verified, or not at all.
    pub(crate) async fn download(&self, wanted: &Wanted, progress: &Progress) -> Result<(), Failure> {
        progress.expect(wanted.len() as u64, wanted.keys().map(Digest::size).sum());
        let (small, large): (Vec<_>, Vec<_>) =
            wanted.iter().partition(|(digest, _)| self.is_small(digest.size()));
        let small = small.into_iter().map(|(digest, places)| (digest.size(), (*digest, places)));
        let batches = stream::iter(packing::pack(small, self.batch_bytes))
            .map(|batch| self.fetch_batch(batch, progress));
        batches.buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
        let streams = stream::iter(large).map(|(digest, places)| self.fetch_file(*digest, places, progress));
        streams.buffer_unordered(CONCURRENCY).try_collect().await
    }

    /// The content of `digest`, which is expected to be a message.
    pub(crate) async fn read_message<M: prost::Message + Default>(
        &self,
        digest: &Digest,
    ) -> Result<M, Failure> {
        if digest.size() > MAX_MESSAGE {
            return Err(Failure::Data(format!("{digest} is too large to be a message")));
        }
        let content = self.stream(digest, Vec::new(), &mut |_| ()).await?;
        M::decode(content.as_slice())
            .map_err(|error| Failure::Data(format!("{digest} is not the message that was expected: {error}")))
    }

    /// Passes the content of `digest` to `write` as it arrives; it is verified by the time this returns.
    pub(crate) async fn read_to(&self, digest: &Digest, write: impl Write) -> Result<(), Failure> {
        self.stream(digest, write, &mut |_| ()).await.map(drop)
    }

    /// Reads each of `digests` back and compares.
    pub(crate) async fn verify(
        &self,
        digests: impl Iterator<Item = &Digest>,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let reads = stream::iter(digests).map(|digest| async move {
            self.stream(digest, io::sink(), &mut |bytes| progress.bytes(bytes)).await?;
            progress.blob();
            Ok(())
        });
        reads.buffer_unordered(CONCURRENCY).try_collect().await
    }

    async fn fetch_batch(
        &self,
        batch: Vec<(Digest, &Vec<Placement>)>,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let mut wanted: IndexMap<Digest, &Vec<Placement>> = batch.into_iter().collect();
        let mut tries = Tries::new(self.remote.retry());
        for (digest, places) in wanted.extract_if(.., |digest, _| digest.is_empty_blob()) {
            write_whole(&digest, &[], places)?;
            progress.blob();
        }
        while !wanted.is_empty() {
            let answer = self.batch_read(wanted.keys()).await?;
            let before = wanted.len();
            let mut refused = None;
            for response in answer.responses {
                let digest = digests::required(self.function, response.digest.as_ref(), "a blob of a batch")?;
                if let Err(status) = status_of(response.status.as_ref()) {
                    refused = Some((digest, status));
                    continue;
                }
                let Some(places) = wanted.swap_remove(&digest) else { continue };
                write_whole(&digest, &unpack(&digest, response.data, response.compressor)?, places)?;
                progress.bytes(digest.size());
                progress.blob();
            }
            match refused {
                Some((digest, status)) => {
                    let what = format!("download {digest}");
                    tries.again(status).await.map_err(|status| Failure::rpc(what, status))?;
                }
                None if wanted.len() == before => {
                    return Err(Failure::Protocol("a batch's answer names none of its blobs".to_owned()));
                }
                None => {}
            }
        }
        Ok(())
    }

    async fn batch_read(
        &self,
        digests: impl Iterator<Item = &Digest>,
    ) -> Result<reapi::BatchReadBlobsResponse, Failure> {
        let zstd = reapi::compressor::Value::Zstd as i32;
        let request = reapi::BatchReadBlobsRequest {
            instance_name: self.remote.instance().to_owned(),
            digests: digests.map(digests::to_wire).collect(),
            acceptable_compressors: if self.zstd_stream { vec![zstd] } else { Vec::new() },
            digest_function: self.function.to_wire(),
        };
        self.remote
            .call("download a batch of blobs", || {
                let (mut client, request) = (self.remote.cas(), request.clone());
                async move { client.batch_read_blobs(request).await }
            })
            .await
    }

    async fn fetch_file(
        &self,
        digest: Digest,
        places: &[Placement],
        progress: &Progress,
    ) -> Result<(), Failure> {
        let Some(first) = places.first() else { return Ok(()) };
        let temporary = temporary_beside(&first.path)?;
        let temporary = self.stream(&digest, temporary, &mut |bytes| progress.bytes(bytes)).await?;
        place(temporary.into_temp_path(), places)?;
        progress.blob();
        Ok(())
    }

    /// Reads `digest` by ByteStream into `writer`, going on where a broken answer stopped.
    async fn stream<W: Write>(
        &self,
        digest: &Digest,
        writer: W,
        received: &mut dyn FnMut(u64),
    ) -> Result<W, Failure> {
        let local = |error: io::Error| unusable(digest, error);
        let mut sink = Sink::new(*digest, writer);
        let mut tries = Tries::new(self.remote.retry());
        while sink.received() < digest.size() {
            sink = sink.begin(self.zstd_stream).map_err(local)?;
            let before = sink.received();
            let read = self.read_once(digest, &mut sink, received).await;
            if sink.received() > before {
                tries.reset();
            }
            match read {
                Ok(()) => break,
                Err(Failure::Rpc { what, status }) => {
                    tries.again(*status).await.map_err(|status| Failure::rpc(what, status))?;
                }
                Err(failure) => return Err(failure),
            }
        }
        let (found, writer) = sink.finish().map_err(local)?;
        if found == *digest {
            return Ok(writer);
        }
        Err(Failure::Data(format!("the server sent other content for {digest}: it hashes to {found}")))
    }

    async fn read_once<W: Write>(
        &self,
        digest: &Digest,
        sink: &mut Sink<W>,
        received: &mut dyn FnMut(u64),
    ) -> Result<(), Failure> {
        let failed = |status| Failure::rpc(format!("download {digest}"), status);
        let request = ReadRequest {
            resource_name: names::download(self.remote.instance(), digest, self.zstd_stream),
            read_offset: i64::try_from(sink.received()).unwrap_or(i64::MAX),
            read_limit: 0,
        };
        let mut answer = self.remote.bytestream().read(request).await.map_err(failed)?.into_inner();
        while let Some(piece) = answer.message().await.map_err(failed)? {
            let before = sink.received();
            sink.take(&piece.data).map_err(|error| unusable(digest, error))?;
            received(sink.received() - before);
        }
        Ok(())
    }
}

/// A file that can't be written is the machine's fault, content that can't be decoded the server's.
fn unusable(digest: &Digest, error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::PermissionDenied | io::ErrorKind::BrokenPipe => {
            Failure::local(format!("can't write {digest}"), error)
        }
        _ => Failure::Data(format!("can't take the server's content of {digest}: {error}")),
    }
}

/// The content of one blob of a batch, verified.
fn unpack(digest: &Digest, data: Bytes, compressor: i32) -> Result<Bytes, Failure> {
    let content = match reapi::compressor::Value::try_from(compressor) {
        Ok(reapi::compressor::Value::Identity) => data,
        Ok(reapi::compressor::Value::Zstd) => {
            let capacity = usize::try_from(digest.size()).unwrap_or(usize::MAX);
            zstd::bulk::decompress(&data, capacity).map_err(|error| unusable(digest, error))?.into()
        }
        _ => {
            return Err(Failure::Protocol(format!(
                "{digest} came with compressor {compressor}, never asked for"
            )));
        }
    };
    if digest.matches(&content) {
        return Ok(content);
    }
    Err(Failure::Data(format!("the server sent other content for {digest}")))
}

fn write_whole(digest: &Digest, content: &[u8], places: &[Placement]) -> Result<(), Failure> {
    let Some(first) = places.first() else { return Ok(()) };
    let mut temporary = temporary_beside(&first.path)?;
    temporary.write_all(content).map_err(|error| Failure::local(format!("can't write {digest}"), error))?;
    place(temporary.into_temp_path(), places)
}

fn temporary_beside(path: &Path) -> Result<NamedTempFile, Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    NamedTempFile::new_in(folder).map_err(|error| Failure::path("create a file in", folder, error))
}

/// Moves the finished file to the first of `places`, and copies it to the others.
fn place(temporary: TempPath, places: &[Placement]) -> Result<(), Failure> {
    let Some((first, others)) = places.split_first() else { return Ok(()) };
    for other in others {
        fs::copy(&temporary, &other.path).map_err(|error| Failure::path("write", &other.path, error))?;
        set_mode(&other.path, other.executable)?;
    }
    set_mode(&temporary, first.executable)?;
    temporary.persist(&first.path).map_err(|error| Failure::path("write", &first.path, error.error))
}

fn set_mode(path: &Path, executable: bool) -> Result<(), Failure> {
    let mode = if executable { 0o755 } else { 0o644 };
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|error| Failure::path("set the mode of", path, error))
}

impl Failure {
    /// Whether the server says that it does not have what was asked for.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Rpc { status, .. } if status.code() == Code::NotFound)
    }
}
