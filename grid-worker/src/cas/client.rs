//! [`Cas`]: the calls of ContentAddressableStorage, with the server's limits and within a retry budget.
//!
//! Neighbours: `batch` carries small blobs, `stream` large ones, and both ask here for what the server can do.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use grid_core::{Digest, DigestFunction, InstanceName};
use grid_proto::bytestream::byte_stream_client::ByteStreamClient;
use grid_proto::reapi;
use grid_proto::reapi::capabilities_client::CapabilitiesClient;
use grid_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use prost::Message;
use tokio::sync::{Mutex, Semaphore};
use tonic::{Code, Status};

use crate::connect::Remote;
use crate::error::WorkerError;
use crate::retry::Retry;

/// The batch limit of servers that name none: gRPC's default message size.
const DEFAULT_BATCH: u64 = 4 << 20;
/// The largest message that is taken: a batch at the limit, with what surrounds it.
pub(super) const MESSAGE_LIMIT: usize = 64 << 20;
/// Digests in one FindMissingBlobs call, about 1.5 MiB.
const FIND_BATCH: usize = 20_000;
/// Calls with payload under way at once, of all actions together.
const PARALLEL_CALLS: usize = 32;
/// The name of zstd in messages.
pub(super) const ZSTD: i32 = reapi::compressor::Value::Zstd as i32;

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
    capabilities: Mutex<Option<Capabilities>>,
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
            capabilities: Mutex::default(),
            permits: Semaphore::new(PARALLEL_CALLS),
        };
        Self { shared: Arc::new(shared) }
    }

    fn channel(&self) -> Remote {
        let turn = self.shared.turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.shared.channels[turn % self.shared.channels.len()].clone()
    }

    pub(super) fn storage(&self) -> ContentAddressableStorageClient<Remote> {
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

    /// The server's capabilities, asked for once, and again after it refused what they allow.
    ///
    /// # Errors
    /// [`WorkerError::Remote`] where the server can't be asked.
    pub async fn capabilities(&self) -> Result<Capabilities, WorkerError> {
        let mut known = self.shared.capabilities.lock().await;
        match *known {
            Some(capabilities) => Ok(capabilities),
            None => Ok(*known.insert(self.ask_capabilities().await?)),
        }
    }

    /// Asks the server anew: it may be another one by now, with other limits.
    pub(super) async fn relearn(&self) -> Result<Capabilities, WorkerError> {
        let learnt = self.ask_capabilities().await?;
        *self.shared.capabilities.lock().await = Some(learnt);
        Ok(learnt)
    }

    async fn ask_capabilities(&self) -> Result<Capabilities, WorkerError> {
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
