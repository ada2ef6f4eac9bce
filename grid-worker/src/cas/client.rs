//! [`Cas`]: the calls of ContentAddressableStorage, with the server's limits and within a retry budget.
//!
//! Neighbours: `plan` says what fits into a call, `stream` carries large blobs. Answers are checked against
//! their digests here, for they are whole in memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use grid_core::{Digest, DigestFunction, InstanceName};
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::reapi;
use grid_proto::reapi::capabilities_client::CapabilitiesClient;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use prost::Message;
use tokio::sync::{OnceCell, Semaphore};
use tonic::{Code, Status};

use crate::connect::Remote;
use crate::error::WorkerError;
use crate::retry::Retry;

/// The batch limit of servers that name none: gRPC's default message size.
const DEFAULT_BATCH: u64 = 4 << 20;
/// The largest message that is taken: a batch at the limit, with what surrounds it.
const MESSAGE_LIMIT: usize = 64 << 20;
/// Digests in one FindMissingBlobs call, about 1.5 MiB.
const FIND_BATCH: usize = 20_000;
/// Calls with payload under way at once, of all actions together.
const PARALLEL_CALLS: usize = 32;

/// Smaller blobs aren't worth to be compressed.
const COMPRESS_FROM: usize = 1 << 10;
/// The name of zstd in messages.
const ZSTD: i32 = reapi::compressor::Value::Zstd as i32;

/// A client of one instance of a CAS. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Cas {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    channels: Vec<Remote>,
    turn: std::sync::atomic::AtomicUsize,
    pub(super) instance: InstanceName,
    pub(super) retry: Retry,
    pub(super) compress: bool,
    capabilities: OnceCell<Capabilities>,
    permits: Semaphore,
}

/// What the server says about itself, as far as the worker needs it.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// The most bytes of a batch call.
    pub batch_limit: u64,
    /// Whether what is read, and streams in both directions, may be compressed with zstd.
    pub zstd: bool,
    /// Whether batches that are written may be.
    pub zstd_updates: bool,
    /// What a hash of 32 bytes is where nobody says.
    pub function_of_32: DigestFunction,
}

impl Cas {
    /// A client over `channels`, taken in turn.
    #[must_use]
    pub fn new(channels: Vec<Remote>, instance: InstanceName, retry: Retry, compress: bool) -> Self {
        let shared = Shared {
            channels,
            turn: std::sync::atomic::AtomicUsize::new(0),
            instance,
            retry,
            compress,
            capabilities: OnceCell::new(),
            permits: Semaphore::new(PARALLEL_CALLS),
        };
        Self { shared: Arc::new(shared) }
    }

    fn channel(&self) -> Remote {
        let turn = self.shared.turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.shared.channels[turn % self.shared.channels.len()].clone()
    }

    fn storage(&self) -> ContentAddressableStorageClient<Remote> {
        ContentAddressableStorageClient::new(self.channel())
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT)
    }

    /// A stub for streams that are no blobs: logs.
    pub fn byte_stream(&self) -> ByteStreamClient<Remote> {
        ByteStreamClient::new(self.channel()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    pub(super) async fn permit(&self) -> Result<tokio::sync::SemaphorePermit<'_>, WorkerError> {
        self.shared.permits.acquire().await.map_err(|error| WorkerError::Internal(error.to_string()))
    }

    /// The server's capabilities, asked for once.
    ///
    /// # Errors
    /// [`WorkerError::Remote`] where the server can't be asked.
    pub async fn capabilities(&self) -> Result<Capabilities, WorkerError> {
        let ask = || async {
            let request =
                reapi::GetCapabilitiesRequest { instance_name: self.shared.instance.as_str().to_owned() };
            let answer = self
                .shared
                .retry
                .run("GetCapabilities", || {
                    let (mut client, request) = (CapabilitiesClient::new(self.channel()), request.clone());
                    async move { client.get_capabilities(request).await }
                })
                .await;
            match answer {
                Ok(answer) => Ok(read_capabilities(&answer.into_inner())),
                // A CAS alone need not serve Capabilities.
                Err(status) if status.code() == Code::Unimplemented => {
                    Ok(read_capabilities(&reapi::ServerCapabilities::default()))
                }
                Err(status) => Err(WorkerError::remote("GetCapabilities", status)),
            }
        };
        self.shared.capabilities.get_or_try_init(ask).await.copied()
    }

    /// Which of `digests` the CAS lacks.
    ///
    /// # Errors
    /// [`WorkerError::Remote`].
    pub async fn find_missing(&self, digests: &[Digest]) -> Result<HashSet<Digest>, WorkerError> {
        let mut missing = HashSet::new();
        for part in digests.chunks(FIND_BATCH) {
            let Some(function) = part.first().map(Digest::function) else { break };
            let request = reapi::FindMissingBlobsRequest {
                instance_name: self.shared.instance.as_str().to_owned(),
                blob_digests: part.iter().map(to_wire).collect(),
                digest_function: function.to_wire(),
            };
            let answer = self
                .shared
                .retry
                .run("FindMissingBlobs", || {
                    let (mut client, request) = (self.storage(), request.clone());
                    async move { client.find_missing_blobs(request).await }
                })
                .await
                .map_err(|status| WorkerError::remote("FindMissingBlobs", status))?;
            for digest in answer.into_inner().missing_blob_digests {
                missing.insert(from_wire(function, &digest)?);
            }
        }
        Ok(missing)
    }

    /// Reads blobs that fit into one batch; every content is what its digest says.
    ///
    /// # Errors
    /// [`WorkerError::Missing`] with all that are not there, [`WorkerError::Corrupt`], [`WorkerError::Remote`].
    pub async fn read_batch(&self, digests: &[Digest]) -> Result<HashMap<Digest, Bytes>, WorkerError> {
        let found = HashMap::with_capacity(digests.len());
        self.read_batch_to(digests, found, |found, digest, content| {
            found.insert(digest, content);
            Ok(())
        })
        .await
    }

    /// As [`Cas::read_batch`]; hands each content with `to` to `take` as soon as it is checked, in a thread that may
    /// block, and gives `to` back.
    ///
    /// # Errors
    /// Those of `take` too.
    pub async fn read_batch_to<T: Send + 'static>(
        &self,
        digests: &[Digest],
        to: T,
        take: fn(&mut T, Digest, Bytes) -> Result<(), WorkerError>,
    ) -> Result<T, WorkerError> {
        let Some(function) = digests.first().map(Digest::function) else { return Ok(to) };
        let zstd = self.shared.compress && self.capabilities().await?.zstd;
        let permit = self.permit().await?;
        let request = reapi::BatchReadBlobsRequest {
            instance_name: self.shared.instance.as_str().to_owned(),
            digests: digests.iter().map(to_wire).collect(),
            acceptable_compressors: if zstd { vec![ZSTD] } else { Vec::new() },
            digest_function: function.to_wire(),
        };
        let answers = self
            .shared
            .retry
            .run("BatchReadBlobs", || {
                let (mut client, request) = (self.storage(), request.clone());
                async move { settle(client.batch_read_blobs(request).await?.into_inner()) }
            })
            .await
            .map_err(|status| WorkerError::remote("BatchReadBlobs", status))?;
        drop(permit);
        let mut lacking: HashSet<Digest> = digests.iter().copied().collect();
        let taken = tokio::task::spawn_blocking(move || {
            let mut to = to;
            for answer in answers {
                if let Some((digest, content)) = check(function, answer)?
                    && lacking.remove(&digest)
                {
                    take(&mut to, digest, content)?;
                }
            }
            // What the server leaves out of its answer it has not got either.
            if lacking.is_empty() { Ok(to) } else { Err(WorkerError::Missing(lacking.into_iter().collect())) }
        });
        taken.await.map_err(|error| WorkerError::Internal(error.to_string()))?
    }

    /// Uploads blobs that fit into one batch.
    ///
    /// # Errors
    /// [`WorkerError::Remote`].
    pub async fn write_batch(&self, blobs: &[(Digest, Bytes)]) -> Result<(), WorkerError> {
        let Some(function) = blobs.first().map(|(digest, _)| digest.function()) else { return Ok(()) };
        let zstd = self.shared.compress && self.capabilities().await?.zstd_updates;
        let blobs = blobs.to_vec();
        let packing = tokio::task::spawn_blocking(move || {
            let request = |(digest, content): &(Digest, Bytes)| {
                let (data, compressor) = pack(content, zstd);
                reapi::batch_update_blobs_request::Request { digest: Some(to_wire(digest)), data, compressor }
            };
            blobs.iter().map(request).collect()
        });
        let requests = packing.await.map_err(|error| WorkerError::Internal(error.to_string()))?;
        let _permit = self.permit().await?;
        let request = reapi::BatchUpdateBlobsRequest {
            instance_name: self.shared.instance.as_str().to_owned(),
            requests,
            digest_function: function.to_wire(),
        };
        self.shared
            .retry
            .run("BatchUpdateBlobs", || {
                let (mut client, request) = (self.storage(), request.clone());
                async move {
                    let answer = client.batch_update_blobs(request).await?.into_inner();
                    let failed = answer.responses.into_iter().filter_map(|r| r.status).find(|s| s.code != 0);
                    failed.map_or(Ok(()), |s| Err(Status::new(Code::from_i32(s.code), s.message)))
                }
            })
            .await
            .map_err(|status| WorkerError::remote("BatchUpdateBlobs", status))
    }

    /// All directories of a tree that the server can find, encoded, in no particular order and perhaps not all.
    ///
    /// # Errors
    /// The server's own: many don't serve the call, or fail it as a whole where one directory is missing.
    pub async fn get_tree(&self, root: &Digest) -> Result<Vec<Bytes>, Status> {
        let mut directories = Vec::new();
        let mut request = reapi::GetTreeRequest {
            instance_name: self.shared.instance.as_str().to_owned(),
            root_digest: Some(to_wire(root)),
            page_size: 0,
            page_token: String::new(),
            digest_function: root.function().to_wire(),
        };
        loop {
            let mut pages = self.storage().get_tree(request.clone()).await?.into_inner();
            let mut next = String::new();
            while let Some(page) = pages.message().await? {
                directories.extend(page.directories);
                next = page.next_page_token;
            }
            if next.is_empty() {
                return Ok(directories);
            }
            request.page_token = next;
        }
    }

    /// Reads and decodes one message.
    ///
    /// # Errors
    /// As [`Cas::read_batch`]; [`WorkerError::Invalid`] where the blob is no such message.
    pub async fn read_message<M: Message + Default>(
        &self,
        what: &str,
        digest: &Digest,
    ) -> Result<M, WorkerError> {
        let bytes = if digest.is_empty_blob() {
            Bytes::new()
        } else if digest.size() > self.capabilities().await?.batch_limit / 2 {
            self.read_whole(digest).await?
        } else {
            self.read_batch(&[*digest]).await?.remove(digest).unwrap_or_default()
        };
        M::decode(bytes)
            .map_err(|error| WorkerError::Invalid(format!("{what} {digest} can't be decoded: {error}")))
    }
}

fn read_capabilities(answer: &reapi::ServerCapabilities) -> Capabilities {
    let cache = answer.cache_capabilities.clone().unwrap_or_default();
    let limit = u64::try_from(cache.max_batch_total_size_bytes).unwrap_or(0);
    let sha256 = cache.digest_functions.contains(&DigestFunction::Sha256.to_wire());
    let blake3 = cache.digest_functions.contains(&DigestFunction::Blake3.to_wire());
    Capabilities {
        // What surrounds the blobs must fit into the server's message limit too.
        batch_limit: if limit == 0 { DEFAULT_BATCH } else { limit.min(DEFAULT_BATCH * 4) }
            - (16 << 10).min(limit / 2),
        zstd: cache.supported_compressors.contains(&ZSTD),
        zstd_updates: cache.supported_batch_update_compressors.contains(&ZSTD),
        function_of_32: if blake3 && !sha256 { DigestFunction::Blake3 } else { DigestFunction::Sha256 },
    }
}

/// Turns a batch in which a blob failed for a passing reason into a failure that is repeated.
fn settle(
    answer: reapi::BatchReadBlobsResponse,
) -> Result<Vec<reapi::batch_read_blobs_response::Response>, Status> {
    for response in &answer.responses {
        if let Some(status) = response.status.as_ref().filter(|s| s.code != 0) {
            let code = Code::from_i32(status.code);
            if code != Code::NotFound {
                return Err(Status::new(code, status.message.clone()));
            }
        }
    }
    Ok(answer.responses)
}

/// The content of an answer, which is what its digest says; `None` where there is none.
fn check(
    function: DigestFunction,
    answer: reapi::batch_read_blobs_response::Response,
) -> Result<Option<(Digest, Bytes)>, WorkerError> {
    if answer.status.is_some_and(|s| s.code != 0) {
        return Ok(None);
    }
    let digest = from_wire(function, &answer.digest.unwrap_or_default())?;
    let content = if answer.compressor == ZSTD {
        // Never more than the digest says, whatever the content claims of itself.
        let most = usize::try_from(digest.size()).unwrap_or(usize::MAX).min(MESSAGE_LIMIT);
        let unpacked = zstd::bulk::decompress(&answer.data, most).map_err(|error| {
            WorkerError::remote("BatchReadBlobs", Status::data_loss(format!("blob {digest}: {error}")))
        })?;
        Bytes::from(unpacked)
    } else {
        answer.data
    };
    let found = Digest::of(function, &content);
    if found == digest { Ok(Some((digest, content))) } else { Err(WorkerError::corrupt(digest, found)) }
}

/// What a batch carries of a blob: compressed where that makes it smaller.
fn pack(content: &Bytes, zstd: bool) -> (Bytes, i32) {
    let packed = (zstd && content.len() >= COMPRESS_FROM)
        .then(|| zstd::bulk::compress(content, zstd::DEFAULT_COMPRESSION_LEVEL).ok())
        .flatten();
    match packed {
        Some(packed) if packed.len() < content.len() => (packed.into(), ZSTD),
        _ => (content.clone(), 0),
    }
}

/// A digest as messages carry it.
#[must_use]
pub fn to_wire(digest: &Digest) -> reapi::Digest {
    reapi::Digest { hash: digest.hash_hex(), size_bytes: digest.size_signed() }
}

/// A digest that a message carries.
///
/// # Errors
/// [`WorkerError::Invalid`] where it is none of `function`.
pub fn from_wire(function: DigestFunction, digest: &reapi::Digest) -> Result<Digest, WorkerError> {
    Digest::parse(function, &digest.hash, digest.size_bytes)
        .map_err(|error| WorkerError::Invalid(error.to_string()))
}
