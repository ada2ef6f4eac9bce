//! Blobs to and from one server's CAS.
//!
//! Small blobs travel in batches, large ones by ByteStream, both compressed where the server offers zstd.
//! No blob that may be large is held whole; every blob that arrives is hashed. Knows files and bytes, not
//! directories: those are [`crate::tree`]'s.

mod download;
mod names;
mod packing;
mod sink;
mod source;
mod upload;

use grid_core::{Digest, DigestFunction};
use grid_proto::{reapi, rpc};
use prost::Message as _;
use tonic::{Code, Status};

pub(crate) use self::download::{Placement, Wanted};
pub(crate) use self::upload::{Report, Source, Uploads};
use crate::exit::Failure;
use crate::remote::{Remote, choose_function};

/// Messages of 4 MiB are what every gRPC peer takes; the rest is for the envelope.
const MAX_BATCH_BYTES: u64 = (4 << 20) - (64 << 10);
/// What a blob costs in a batch beside its content: digest, status, tags.
const BATCH_ENTRY_OVERHEAD: u64 = 192;
/// Blobs above this share of a batch go by ByteStream, which needs no second copy of them.
const BATCH_SHARE: u64 = 4;
/// Digests in one FindMissingBlobs: under 1 MiB of request.
const FIND_MISSING_DIGESTS: usize = 10_000;
/// Transfers at once: enough to hide the latency, few enough that memory stays in the tens of MiB.
const CONCURRENCY: usize = 8;

/// The CAS of one instance.
#[derive(Clone, Debug)]
pub(crate) struct Cas {
    remote: Remote,
    function: DigestFunction,
    batch_bytes: u64,
    zstd_stream: bool,
    zstd_batch: bool,
    max_blob: u64,
}

impl Cas {
    /// The CAS at `remote`, with its limits; `asked` is the digest function that the user wants.
    pub(crate) async fn new(remote: Remote, asked: Option<DigestFunction>) -> Result<Self, Failure> {
        let capabilities = remote.capabilities().await?.cache_capabilities.unwrap_or_default();
        let function = choose_function(asked, &capabilities.digest_functions)?;
        let zstd = reapi::compressor::Value::Zstd as i32;
        let told = u64::try_from(capabilities.max_batch_total_size_bytes).unwrap_or_default();
        let batch_bytes = if told == 0 { MAX_BATCH_BYTES } else { told.min(MAX_BATCH_BYTES) };
        let max_blob = u64::try_from(capabilities.max_cas_blob_size_bytes).unwrap_or_default();
        Ok(Self {
            remote,
            function,
            batch_bytes,
            zstd_stream: capabilities.supported_compressors.contains(&zstd),
            zstd_batch: capabilities.supported_batch_update_compressors.contains(&zstd),
            max_blob,
        })
    }

    /// The digest function in use.
    pub(crate) fn function(&self) -> DigestFunction {
        self.function
    }

    /// Whether `size` bytes go in a batch rather than a stream.
    fn is_small(&self, size: u64) -> bool {
        size <= self.batch_bytes / BATCH_SHARE
    }

    /// Refuses what the server says it won't store.
    fn check_size(&self, digest: &Digest) -> Result<(), Failure> {
        if self.max_blob == 0 || digest.size() <= self.max_blob {
            return Ok(());
        }
        let (size, limit) = (digest.size(), self.max_blob);
        Err(Failure::Unsupported(format!("blob of {size} bytes: the server takes at most {limit}")))
    }
}

/// The status of one blob in a batch, as that of a call.
fn status_of(status: Option<&rpc::Status>) -> Result<(), Status> {
    let Some(status) = status.filter(|status| status.code != 0) else { return Ok(()) };
    let details = status.encode_to_vec().into();
    Err(Status::with_details(Code::from_i32(status.code), status.message.clone(), details))
}
