//! Uploads a set of blobs: asks which are missing, then sends those.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use grid_core::Digest;
use grid_proto::bytestream::QueryWriteStatusRequest;
use grid_proto::reapi;
use grid_proto::reapi::batch_update_blobs_request as update;
use indexmap::IndexMap;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::digests;
use crate::exit::Failure;
use crate::progress::Progress;
use crate::remote::retry::Tries;
use crate::transfer::source::{self, Plan, ZSTD_LEVEL};
use crate::transfer::{CONCURRENCY, Cas, FIND_MISSING_DIGESTS, names, packing, status_of};

/// Content below this size gains nothing from compression in a batch.
const MIN_COMPRESSED: u64 = 512;

/// Where a blob's content is.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// In memory: messages, which are small.
    Bytes(Bytes),
    /// In a file.
    File(PathBuf),
}

impl Source {
    /// The failure to read this.
    pub(crate) fn unreadable(&self, error: io::Error) -> Failure {
        match self {
            Self::File(path) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Failure::Data(format!("{} became shorter while it was being uploaded", path.display()))
            }
            Self::File(path) => Failure::path("read", path, error),
            Self::Bytes(_) => Failure::local("read a message", error),
        }
    }
}

/// Blobs to upload, each once.
pub(crate) type Uploads = IndexMap<Digest, Source>;

/// What an upload did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Distinct blobs that were to be there.
    pub(crate) blobs: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Blobs that were missing and sent.
    pub(crate) sent_blobs: u64,
    /// Their bytes before compression.
    pub(crate) sent_bytes: u64,
}

impl Report {
    /// How much an upload that sent `sent` of `all` did.
    fn of(all: &Uploads, sent: &[(Digest, Source)]) -> Self {
        Self {
            blobs: all.len() as u64,
            bytes: all.keys().map(Digest::size).sum(),
            sent_blobs: sent.len() as u64,
            sent_bytes: sent.iter().map(|(digest, _)| digest.size()).sum(),
        }
    }
}

impl Cas {
    /// Those of `digests` that the CAS does not have.
    pub(crate) async fn find_missing(&self, digests: &[Digest]) -> Result<HashSet<Digest>, Failure> {
        let mut missing = HashSet::new();
        for part in digests.chunks(FIND_MISSING_DIGESTS) {
            let request = reapi::FindMissingBlobsRequest {
                instance_name: self.remote.instance().to_owned(),
                blob_digests: part.iter().map(digests::to_wire).collect(),
                digest_function: self.function.to_wire(),
            };
            let answer = self
                .remote
                .call("ask which blobs are missing", || {
                    let (mut client, request) = (self.remote.cas(), request.clone());
                    async move { client.find_missing_blobs(request).await }
                })
                .await?;
            for digest in &answer.missing_blob_digests {
                missing.insert(digests::from_wire(self.function, digest)?);
            }
        }
        Ok(missing)
    }

    /// Makes `blobs` exist in the CAS.
    pub(crate) async fn upload(&self, blobs: &Uploads, progress: &Progress) -> Result<Report, Failure> {
        for digest in blobs.keys() {
            self.check_size(digest)?;
        }
        let digests: Vec<_> = blobs.keys().copied().filter(|digest| !digest.is_empty_blob()).collect();
        let missing = self.find_missing(&digests).await?;
        let sent: Vec<_> = blobs
            .iter()
            .filter(|(digest, _)| missing.contains(*digest))
            .map(|(digest, source)| (*digest, source.clone()))
            .collect();
        let report = Report::of(blobs, &sent);
        progress.expect(report.sent_blobs, report.sent_bytes);
        let (small, large): (Vec<_>, Vec<_>) =
            sent.into_iter().partition(|(digest, _)| self.is_small(digest.size()));
        let small = small.into_iter().map(|(digest, source)| (digest.size(), (digest, source)));
        let batches = stream::iter(packing::pack(small, self.batch_bytes))
            .map(|batch| self.send_batch(batch, progress));
        batches.buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
        let streams = stream::iter(large).map(|(digest, source)| self.send_stream(digest, source, progress));
        streams.buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
        Ok(report)
    }

    async fn send_batch(&self, batch: Vec<(Digest, Source)>, progress: &Progress) -> Result<(), Failure> {
        let zstd = self.zstd_batch;
        let loading = tokio::task::spawn_blocking(move || {
            batch.iter().map(|(digest, source)| load(digest, source, zstd)).collect::<Result<Vec<_>, _>>()
        });
        let mut requests = joined(loading.await)?;
        let mut tries = Tries::new(self.remote.retry());
        while !requests.is_empty() {
            let request = reapi::BatchUpdateBlobsRequest {
                instance_name: self.remote.instance().to_owned(),
                requests: requests.clone(),
                digest_function: self.function.to_wire(),
            };
            let answer = self
                .remote
                .call("upload a batch of blobs", || {
                    let (mut client, request) = (self.remote.cas(), request.clone());
                    async move { client.batch_update_blobs(request).await }
                })
                .await?;
            let refused = self.settle(&mut requests, &answer, progress)?;
            if let Some((digest, status)) = refused {
                let what = format!("upload {}", digests::text(Some(&digest)));
                tries.again(status).await.map_err(|status| Failure::rpc(what, status))?;
            }
        }
        Ok(())
    }

    /// Removes from `requests` what `answer` says is stored; gives one of the refusals, if there are any.
    fn settle(
        &self,
        requests: &mut Vec<update::Request>,
        answer: &reapi::BatchUpdateBlobsResponse,
        progress: &Progress,
    ) -> Result<Option<(reapi::Digest, Status)>, Failure> {
        let mut stored = HashSet::new();
        let mut refused = None;
        for response in &answer.responses {
            let digest = digests::required(self.function, response.digest.as_ref(), "a blob of a batch")?;
            match status_of(response.status.as_ref()) {
                Ok(()) => {
                    stored.insert(digests::to_wire(&digest).hash);
                }
                Err(status) => refused = Some((digests::to_wire(&digest), status)),
            }
        }
        let before = requests.len();
        requests.retain(|request| {
            let Some(digest) = request.digest.as_ref().filter(|digest| stored.contains(&digest.hash)) else {
                return true;
            };
            progress.bytes(u64::try_from(digest.size_bytes).unwrap_or_default());
            progress.blob();
            false
        });
        if refused.is_none() && requests.len() == before {
            return Err(Failure::Protocol("a batch's answer names none of its blobs".to_owned()));
        }
        Ok(refused)
    }

    async fn send_stream(&self, digest: Digest, source: Source, progress: &Progress) -> Result<(), Failure> {
        let zstd = self.zstd_stream;
        let fresh = || names::upload(self.remote.instance(), Uuid::new_v4(), &digest, zstd);
        let mut plan = Plan { source, size: digest.size(), name: fresh(), offset: 0, zstd };
        let mut tries = Tries::new(self.remote.retry());
        while let Err(failure) = self.write(&plan, &digest).await {
            let Failure::Rpc { what, status } = failure else { return Err(failure) };
            tries.again(*status).await.map_err(|status| Failure::rpc(what, status))?;
            let reached = if zstd { 0 } else { self.committed(&plan.name).await };
            if reached > plan.offset && reached <= plan.size {
                tries.reset();
                plan.offset = reached;
            } else {
                (plan.name, plan.offset) = (fresh(), 0);
            }
        }
        progress.bytes(digest.size());
        progress.blob();
        Ok(())
    }

    /// One ByteStream write of what is left of `plan`.
    async fn write(&self, plan: &Plan, digest: &Digest) -> Result<(), Failure> {
        let (requests, reader) = source::requests(plan.clone());
        let answer = self.remote.bytestream().write(ReceiverStream::new(requests)).await;
        // The call has let go of the requests, so that the reader ends. What it found comes before what the
        // server makes of a stream that broke off.
        joined(reader.await)?;
        let committed = match answer {
            Ok(answer) => answer.into_inner().committed_size,
            Err(status) => return Err(Failure::rpc(format!("upload {digest}"), status)),
        };
        if plan.zstd || committed == digest.size_signed() {
            return Ok(());
        }
        Err(Failure::Protocol(format!("upload {digest}: the server says that it stored {committed} bytes")))
    }

    /// How much of a broken write the server has; 0 when it can't say.
    async fn committed(&self, name: &str) -> u64 {
        let request = QueryWriteStatusRequest { resource_name: name.to_owned() };
        let answer = self.remote.bytestream().query_write_status(request).await;
        answer.map_or(0, |answer| u64::try_from(answer.into_inner().committed_size).unwrap_or(0))
    }
}

/// Reads one small blob, checks it, and compresses it where that helps.
fn load(digest: &Digest, source: &Source, zstd: bool) -> Result<update::Request, Failure> {
    let content = match source {
        Source::Bytes(bytes) => bytes.clone(),
        Source::File(path) => std::fs::read(path).map_err(|error| source.unreadable(error))?.into(),
    };
    if let (Source::File(path), false) = (source, digest.matches(&content)) {
        return Err(Failure::Data(format!("{} changed while it was being uploaded", path.display())));
    }
    let identity = reapi::compressor::Value::Identity as i32;
    let mut request =
        update::Request { digest: Some(digests::to_wire(digest)), data: content, compressor: identity };
    if zstd && digest.size() >= MIN_COMPRESSED {
        let packed =
            zstd::bulk::compress(&request.data, ZSTD_LEVEL).map_err(|error| source.unreadable(error))?;
        if packed.len() < request.data.len() {
            request.data = packed.into();
            request.compressor = reapi::compressor::Value::Zstd as i32;
        }
    }
    Ok(request)
}

/// The result of a thread; its panic is a failure of ours and not of the process.
fn joined<T>(result: Result<Result<T, Failure>, tokio::task::JoinError>) -> Result<T, Failure> {
    result.unwrap_or_else(|error| {
        Err(Failure::rpc("read files", Status::new(Code::Internal, error.to_string())))
    })
}
